package provision

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/skerry/skerry/board/initrd"
)

// ErrNoImage says that this gateway does not run an image of ours, so that there is nobody to reset it.
var ErrNoImage = errors.New("this gateway does not run a system of Skerry's: end skerryd and remove its data folder instead (docs/install.md)")

// RequestReset asks the next start for a factory reset of the gateway with this data folder. root is / but in tests.
func RequestReset(root, dataDir string, keepIdentity bool) error {
	if _, err := os.Stat(filepath.Join(root, "usr/lib/skerry/image.json")); err != nil {
		return ErrNoImage
	}
	what := initrd.ResetAll
	if keepIdentity {
		what = initrd.ResetKeepIdentity
	}
	if err := replace(filepath.Join(root, dataDir, initrd.ResetRequest), what+"\n", 0o600); err != nil {
		return fmt.Errorf("ask for the factory reset: %w", err)
	}
	return nil
}
