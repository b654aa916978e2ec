//go:build !ceph || !cgo

package main

import (
	"fmt"

	"github.com/dvol/dvold/internal/config"
)

// cephOpener refuses the types of pool that need Ceph's libraries.
func cephOpener(name string, cfg config.Config) (opener, error) {
	return opener{}, fmt.Errorf("pool %q: this dvold was built without Ceph, which type %s needs: install librados-dev, librbd-dev and libcephfs-dev, and build it again (make build)", name, cfg.Pools[name].Type)
}
