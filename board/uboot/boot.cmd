# Which system boots: the script that U-Boot runs on every gateway with Skerry's image.
#
# The boot environment is two raw partitions, env-a and env-b (board/bootenv explains the format). This takes the whole copy with the higher number, picks
# the first slot of BOOT_ORDER that has tries left, takes one try from it, writes both copies, one after the other, and boots the slot's kernel. A slot that
# the agent confirms gets its tries back; one that does not get that far loses them, and the other one boots.
#
# Needs: devtype and devnum (U-Boot's distro boot sets them: the disk that this script is on), kernel_addr_r, ramdisk_addr_r, and of commands part, env import and
# export, setexpr, bootz or booti. No redundant environment in U-Boot's own configuration: its blocks have a byte more.
#
# Counts have one digit, because setexpr reads hexadecimal and test reads decimal. SKERRY_SEQ is written with 0x, which both understand.

setenv sk_at ${ramdisk_addr_r}
setenv sk_vars SKERRY_SEQ SKERRY_CONFIRMED SKERRY_RESORT BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
${devtype} dev ${devnum}

# 1. Which copy counts.
setenv sk_best
setenv sk_high
for sk_copy in env-a env-b; do
	setenv sk_start
	setenv SKERRY_SEQ 0x0
	setenv sk_whole no
	if part start ${devtype} ${devnum} ${sk_copy} sk_start; then
		if ${devtype} read ${sk_at} ${sk_start} 0x80; then
			if env import -c ${sk_at} 0x10000 SKERRY_SEQ; then
				setenv sk_whole yes
			fi
		fi
	fi
	if test ${sk_whole} = yes; then
		if test -z "${sk_best}"; then
			setenv sk_best ${sk_copy}
			setenv sk_high ${SKERRY_SEQ}
		elif test ${SKERRY_SEQ} -gt ${sk_high}; then
			setenv sk_best ${sk_copy}
			setenv sk_high ${SKERRY_SEQ}
		fi
	else
		echo "skerry: ${sk_copy} is damaged"
	fi
done

# 2. What it says; what is missing has its default.
setenv SKERRY_SEQ
setenv SKERRY_CONFIRMED
setenv SKERRY_RESORT
setenv BOOT_ORDER
setenv BOOT_A_LEFT
setenv BOOT_B_LEFT
if test -n "${sk_best}"; then
	part start ${devtype} ${devnum} ${sk_best} sk_start
	${devtype} read ${sk_at} ${sk_start} 0x80
	env import -c ${sk_at} 0x10000 ${sk_vars}
else
	echo "skerry: both copies of the boot environment are damaged: booting as at first"
fi
test -n "${SKERRY_SEQ}" || setenv SKERRY_SEQ 0x0
test -n "${SKERRY_RESORT}" || setenv SKERRY_RESORT 0
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER A B
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3

# 3. Which slot boots.
setenv sk_slot
for sk_s in ${BOOT_ORDER}; do
	if test -z "${sk_slot}"; then
		if test ${sk_s} = A -a ${BOOT_A_LEFT} -gt 0; then
			setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
			setenv sk_slot A
			setenv sk_left ${BOOT_A_LEFT}
		elif test ${sk_s} = B -a ${BOOT_B_LEFT} -gt 0; then
			setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
			setenv sk_slot B
			setenv sk_left ${BOOT_B_LEFT}
		fi
	fi
done
if test -z "${sk_slot}"; then
	# The last resort: no slot has tries left, and nobody may be locked out for that. The confirmed one, next time the other one, and so on.
	setenv sk_slot A
	test "${SKERRY_CONFIRMED}" = B && setenv sk_slot B
	setexpr sk_odd ${SKERRY_RESORT} \& 1
	if test ${sk_odd} = 1; then
		if test ${sk_slot} = A; then
			setenv sk_slot B
		else
			setenv sk_slot A
		fi
	fi
	if test ${SKERRY_RESORT} -ge 9; then
		setenv SKERRY_RESORT 1
	fi
	setexpr SKERRY_RESORT ${SKERRY_RESORT} + 1
	setenv sk_left 0
	echo "skerry: neither slot has tries left: slot ${sk_slot} is booted all the same"
fi

# 4. The try is paid for before it is made. The copy that counts now is written last, so that there is always a whole one.
setexpr SKERRY_SEQ ${SKERRY_SEQ} + 1
setenv SKERRY_SEQ 0x${SKERRY_SEQ}
env export -c -s 0x10000 ${sk_at} ${sk_vars}
setenv sk_order env-a env-b
test "${sk_best}" = env-a && setenv sk_order env-b env-a
for sk_copy in ${sk_order}; do
	if part start ${devtype} ${devnum} ${sk_copy} sk_start; then
		${devtype} write ${sk_at} ${sk_start} 0x80 || echo "skerry: ${sk_copy} cannot be written"
	fi
done

# 5. The slot's kernel. What fails ends in a reset, which costs the slot its next try.
setenv sk_boot boot-a
test ${sk_slot} = B && setenv sk_boot boot-b
echo "skerry: slot ${sk_slot} boots, ${sk_left} tries left after this one"
setenv slotargs
if part number ${devtype} ${devnum} ${sk_boot} sk_part; then
	if load ${devtype} ${devnum}:${sk_part} ${sk_at} boot.cmdline; then
		env import -t ${sk_at} ${filesize} slotargs
	fi
	setenv sk_fdt ${fdtcontroladdr}
	if test -n "${fdt_addr_r}"; then
		if load ${devtype} ${devnum}:${sk_part} ${fdt_addr_r} board.dtb; then
			setenv sk_fdt ${fdt_addr_r}
		fi
	fi
	if load ${devtype} ${devnum}:${sk_part} ${kernel_addr_r} vmlinuz; then
		if load ${devtype} ${devnum}:${sk_part} ${ramdisk_addr_r} initrd; then
			setenv bootargs ${slotargs} skerry.slot=${sk_slot} rauc.slot=${sk_slot}
			setenv sk_initrd ${ramdisk_addr_r}:${filesize}
			if test -n "${slotargs}"; then
				bootz ${kernel_addr_r} ${sk_initrd} ${sk_fdt}
				booti ${kernel_addr_r} ${sk_initrd} ${sk_fdt}
			fi
		fi
	fi
fi
echo "skerry: slot ${sk_slot} cannot be booted"
sleep 1
reset
