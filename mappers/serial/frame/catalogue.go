package frame

// entry is one algorithm of the catalogue.
type entry struct {
	names []string // the catalogue's name first, then others in use
	crc   CRC
	check uint64 // of "123456789"
}

// catalogue has the algorithms of 8 and 16 bits of the "Catalogue of parametrised CRC algorithms" (reveng.sourceforge.io/crc-catalogue),
// under its names, and the one of 32 bits that everybody means. It is built when it is asked for: configuration is rare.
func catalogue() []entry {
	return []entry{
		{[]string{"CRC-8/AUTOSAR"}, CRC{8, 0x2F, 0xFF, false, false, 0xFF}, 0xDF},
		{[]string{"CRC-8/BLUETOOTH"}, CRC{8, 0xA7, 0x00, true, true, 0x00}, 0x26},
		{[]string{"CRC-8/CDMA2000"}, CRC{8, 0x9B, 0xFF, false, false, 0x00}, 0xDA},
		{[]string{"CRC-8/DARC"}, CRC{8, 0x39, 0x00, true, true, 0x00}, 0x15},
		{[]string{"CRC-8/DVB-S2"}, CRC{8, 0xD5, 0x00, false, false, 0x00}, 0xBC},
		{[]string{"CRC-8/GSM-A"}, CRC{8, 0x1D, 0x00, false, false, 0x00}, 0x37},
		{[]string{"CRC-8/GSM-B"}, CRC{8, 0x49, 0x00, false, false, 0xFF}, 0x94},
		{[]string{"CRC-8/HITAG"}, CRC{8, 0x1D, 0xFF, false, false, 0x00}, 0xB4},
		{[]string{"CRC-8/I-432-1", "CRC-8/ITU"}, CRC{8, 0x07, 0x00, false, false, 0x55}, 0xA1},
		{[]string{"CRC-8/I-CODE"}, CRC{8, 0x1D, 0xFD, false, false, 0x00}, 0x7E},
		{[]string{"CRC-8/LTE"}, CRC{8, 0x9B, 0x00, false, false, 0x00}, 0xEA},
		{[]string{"CRC-8/MAXIM-DOW", "CRC-8/MAXIM", "DOW-CRC"}, CRC{8, 0x31, 0x00, true, true, 0x00}, 0xA1},
		{[]string{"CRC-8/MIFARE-MAD"}, CRC{8, 0x1D, 0xC7, false, false, 0x00}, 0x99},
		{[]string{"CRC-8/NRSC-5"}, CRC{8, 0x31, 0xFF, false, false, 0x00}, 0xF7},
		{[]string{"CRC-8/OPENSAFETY"}, CRC{8, 0x2F, 0x00, false, false, 0x00}, 0x3E},
		{[]string{"CRC-8/ROHC"}, CRC{8, 0x07, 0xFF, true, true, 0x00}, 0xD0},
		{[]string{"CRC-8/SAE-J1850"}, CRC{8, 0x1D, 0xFF, false, false, 0xFF}, 0x4B},
		{[]string{"CRC-8/SMBUS", "CRC-8"}, CRC{8, 0x07, 0x00, false, false, 0x00}, 0xF4},
		{[]string{"CRC-8/TECH-3250", "CRC-8/EBU", "CRC-8/AES"}, CRC{8, 0x1D, 0xFF, true, true, 0x00}, 0x97},
		{[]string{"CRC-8/WCDMA"}, CRC{8, 0x9B, 0x00, true, true, 0x00}, 0x25},
		{[]string{"CRC-16/ARC", "CRC-16", "CRC-16/LHA", "CRC-IBM"}, CRC{16, 0x8005, 0x0000, true, true, 0x0000}, 0xBB3D},
		{[]string{"CRC-16/CDMA2000"}, CRC{16, 0xC867, 0xFFFF, false, false, 0x0000}, 0x4C06},
		{[]string{"CRC-16/CMS"}, CRC{16, 0x8005, 0xFFFF, false, false, 0x0000}, 0xAEE7},
		{[]string{"CRC-16/DDS-110"}, CRC{16, 0x8005, 0x800D, false, false, 0x0000}, 0x9ECF},
		{[]string{"CRC-16/DECT-R"}, CRC{16, 0x0589, 0x0000, false, false, 0x0001}, 0x007E},
		{[]string{"CRC-16/DECT-X"}, CRC{16, 0x0589, 0x0000, false, false, 0x0000}, 0x007F},
		{[]string{"CRC-16/DNP"}, CRC{16, 0x3D65, 0x0000, true, true, 0xFFFF}, 0xEA82},
		{[]string{"CRC-16/EN-13757"}, CRC{16, 0x3D65, 0x0000, false, false, 0xFFFF}, 0xC2B7},
		{[]string{"CRC-16/GENIBUS", "CRC-16/DARC", "CRC-16/I-CODE"}, CRC{16, 0x1021, 0xFFFF, false, false, 0xFFFF}, 0xD64E},
		{[]string{"CRC-16/GSM"}, CRC{16, 0x1021, 0x0000, false, false, 0xFFFF}, 0xCE3C},
		{[]string{"CRC-16/IBM-3740", "CRC-16/CCITT-FALSE", "CRC-16/AUTOSAR"}, CRC{16, 0x1021, 0xFFFF, false, false, 0x0000}, 0x29B1},
		{[]string{"CRC-16/IBM-SDLC", "CRC-16/X-25", "CRC-16/ISO-HDLC", "X-25", "CRC-B"}, CRC{16, 0x1021, 0xFFFF, true, true, 0xFFFF}, 0x906E},
		{[]string{"CRC-16/ISO-IEC-14443-3-A", "CRC-A"}, CRC{16, 0x1021, 0xC6C6, true, true, 0x0000}, 0xBF05},
		{[]string{"CRC-16/KERMIT", "CRC-16/CCITT", "CRC-16/CCITT-TRUE", "CRC-16/V-41-LSB", "CRC-CCITT"}, CRC{16, 0x1021, 0x0000, true, true, 0x0000}, 0x2189},
		{[]string{"CRC-16/LJ1200"}, CRC{16, 0x6F63, 0x0000, false, false, 0x0000}, 0xBDF4},
		{[]string{"CRC-16/MAXIM-DOW", "CRC-16/MAXIM"}, CRC{16, 0x8005, 0x0000, true, true, 0xFFFF}, 0x44C2},
		{[]string{"CRC-16/MCRF4XX"}, CRC{16, 0x1021, 0xFFFF, true, true, 0x0000}, 0x6F91},
		{[]string{"CRC-16/MODBUS", "MODBUS"}, CRC{16, 0x8005, 0xFFFF, true, true, 0x0000}, 0x4B37},
		{[]string{"CRC-16/NRSC-5"}, CRC{16, 0x080B, 0xFFFF, true, true, 0x0000}, 0xA066},
		{[]string{"CRC-16/OPENSAFETY-A"}, CRC{16, 0x5935, 0x0000, false, false, 0x0000}, 0x5D38},
		{[]string{"CRC-16/OPENSAFETY-B"}, CRC{16, 0x755B, 0x0000, false, false, 0x0000}, 0x20FE},
		{[]string{"CRC-16/PROFIBUS", "CRC-16/IEC-61158-2"}, CRC{16, 0x1DCF, 0xFFFF, false, false, 0xFFFF}, 0xA819},
		{[]string{"CRC-16/RIELLO"}, CRC{16, 0x1021, 0xB2AA, true, true, 0x0000}, 0x63D0},
		{[]string{"CRC-16/SPI-FUJITSU", "CRC-16/AUG-CCITT"}, CRC{16, 0x1021, 0x1D0F, false, false, 0x0000}, 0xE5CC},
		{[]string{"CRC-16/T10-DIF"}, CRC{16, 0x8BB7, 0x0000, false, false, 0x0000}, 0xD0DB},
		{[]string{"CRC-16/TELEDISK"}, CRC{16, 0xA097, 0x0000, false, false, 0x0000}, 0x0FB3},
		{[]string{"CRC-16/TMS37157"}, CRC{16, 0x1021, 0x89EC, true, true, 0x0000}, 0x26B1},
		{[]string{"CRC-16/UMTS", "CRC-16/BUYPASS", "CRC-16/VERIFONE"}, CRC{16, 0x8005, 0x0000, false, false, 0x0000}, 0xFEE8},
		{[]string{"CRC-16/USB"}, CRC{16, 0x8005, 0xFFFF, true, true, 0xFFFF}, 0xB4C8},
		{[]string{"CRC-16/XMODEM", "CRC-16/ZMODEM", "CRC-16/ACORN", "CRC-16/V-41-MSB", "XMODEM"}, CRC{16, 0x1021, 0x0000, false, false, 0x0000}, 0x31C3},
		{[]string{"CRC-32/ISO-HDLC", "CRC-32"}, CRC{32, 0x04C11DB7, 0xFFFFFFFF, true, true, 0xFFFFFFFF}, 0xCBF43926},
	}
}
