package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/test/lab"
)

// facts are what one has to know of the machine and the programs to judge the
// numbers.
func facts(ctx context.Context, h *lab.Host, dvold string) ([]string, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, err
	}
	system, err := fileSystem(h.Path("."))
	if err != nil {
		return nil, err
	}
	version, err := h.Exec(ctx, dvold, "version")
	if err != nil {
		return nil, err
	}
	docker, err := h.Exec(ctx, "dockerd", "--version")
	if err != nil {
		return nil, err
	}
	load, err := loadAverage()
	if err != nil {
		return nil, err
	}
	return []string{
		fmt.Sprintf("%d cores (%s)", runtime.NumCPU(), processor()),
		"Linux " + unix.ByteSliceToString(uname.Release[:]),
		"state directory on " + system,
		"dvold " + version + ", built by " + runtime.Version(),
		docker,
		"load at the start " + load,
	}, nil
}

// fileSystem is the type of that which dir lies on.
func fileSystem(dir string) (string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return "", err
	}
	var nearest *mountinfo.Info
	for _, m := range mounts {
		if nearest == nil || len(m.Mountpoint) >= len(nearest.Mountpoint) {
			nearest = m
		}
	}
	if nearest == nil {
		return "", fmt.Errorf("%s is on no file system", dir)
	}
	return nearest.FSType, nil
}

// processor is what the first one is called.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}

// loadAverage is how many processes ran, over the last minute.
func loadAverage() (string, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	minute, _, _ := strings.Cut(string(text), " ")
	return minute, nil
}
