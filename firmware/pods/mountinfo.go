package pods

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// maxMountLine bounds a line of mountinfo: an overlay names all of its layers.
const maxMountLine = 1 << 20

// mountsBelow returns the mount points below a folder, in the order in which they were made (proc_pid_mountinfo(5)). dir has no symbolic links.
func mountsBelow(mountinfo io.Reader, dir string) ([]string, error) {
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, maxMountLine)
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []string
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		at := unescape.Replace(fields[4])
		if strings.HasPrefix(at, dir+"/") && !strings.HasSuffix(at, "//deleted") {
			out = append(out, at)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	return out, nil
}
