package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestConfiguredPools(t *testing.T) {
	h := ownHost(t)
	h.must(h.StopDvold())
	pool := func(name string) string { return filepath.Join(h.StateDir(), "pools", name) }
	file := h.scratch("dvold.yaml")
	h.must(os.WriteFile(file, []byte(`
default_pool: main
pools:
  main: {type: local, path: `+pool("main")+`}
  brief: {type: local, path: `+pool("brief")+`, trash_ttl: 0}
`), 0o644))
	h.must(h.StartDvold(h.ctx, "--config", file))
	h.create("here")
	h.create("there", "-o", "pool=brief")
	h.sh("touch /here/1 /there/2", "-v", "here:/here", "-v", "there:/there")
	for _, pattern := range []string{"main/volumes/here.*/1", "brief/volumes/there.*/2"} {
		if files, err := filepath.Glob(pool(pattern)); err != nil || len(files) != 1 {
			t.Errorf("%s = %v (%v), want one file", pattern, files, err)
		}
	}
	h.docker("volume", "rm", "here", "there")
	h.eventually("purge in the pool without a trash", func() bool {
		files, err := filepath.Glob(pool("brief/*/*"))
		h.must(err)
		return len(files) == 0
	})
	h.dvold("trash", "restore", "here")
	want(t, "files", h.sh("ls /here", "-v", "here:/here"), "1")
}
