package push

// protocols are all that values can be pushed with, by their names in the manifest.
func protocols() map[string]protocol {
	return map[string]protocol{
		"http":      {parseHTTP, dialHTTP},
		"influxdb2": {parseInflux, dialInflux},
		"otel":      {parseOTLP, dialOTLP},
		"TDEngine":  {parseTDengine, dialTDengine},
		"mqtt":      {parseMQTT, dialMQTT},
		"redis":     {parseRedis, dialRedis},
	}
}
