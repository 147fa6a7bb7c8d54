include $(sort $(wildcard $(BR2_EXTERNAL_SKERRY_PATH)/package/*/*.mk))
