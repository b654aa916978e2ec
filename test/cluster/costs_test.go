package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// costs is what dvold takes of a machine.
type costs struct{ threads, files, kilobytes int }

// costs looks at the host's dvold.
func (h *host) costs() (c costs) {
	h.t.Helper()
	process := h.dvoldProcess()
	status, err := os.ReadFile(process + "/status")
	h.must(err)
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "Threads: %d", &c.threads)
		fmt.Sscanf(line, "VmRSS: %d kB", &c.kilobytes)
	}
	files, err := os.ReadDir(process + "/fd")
	h.must(err)
	c.files = len(files)
	if c.threads == 0 || c.kilobytes == 0 {
		h.t.Fatalf("status of dvold: %s", status)
	}
	return c
}

// dvoldProcess is the directory in /proc of the host's dvold.
func (h *host) dvoldProcess() string {
	h.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	h.must(err)
	for _, file := range all {
		argv, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(argv), "serve\x00--state-dir\x00"+h.StateDir()+"\x00") {
			return filepath.Dir(file)
		}
	}
	h.t.Fatalf("%s has no dvold", h.Name())
	return ""
}
