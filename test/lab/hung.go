package lab

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
)

// Hung lists the mountpoints of this machine whose file system doesn't answer
// within a second. Only those are asked that depend on a server or a process;
// each by a process of its own, for it may wait for ever.
func Hung(ctx context.Context) ([]string, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !remote(m.FSType), false
	})
	if err != nil {
		return nil, fmt.Errorf("look for file systems that hang: %w", err)
	}
	var mu sync.Mutex
	var hung []string
	err = each(mounts, func(m *mountinfo.Info) error {
		if !answersSoon(ctx, m.Mountpoint) {
			mu.Lock()
			defer mu.Unlock()
			hung = append(hung, m.Mountpoint)
		}
		return nil
	})
	slices.Sort(hung)
	return hung, err
}

// remote tells whether a file system of this type may stop to answer.
func remote(fsType string) bool {
	for _, kind := range []string{"fuse", "nfs", "ceph", "cifs", "smb", "9p", "glusterfs", "lustre", "afs"} {
		if strings.HasPrefix(fsType, kind) && fsType != "fusectl" && fsType != "nfsd" {
			return true
		}
	}
	return false
}

func answersSoon(ctx context.Context, mountpoint string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	cmd := exec.Command("stat", "--file-system", mountpoint)
	if cmd.Start() != nil {
		return false
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait() // an error is an answer, too
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		cmd.Process.Kill() // in vain, perhaps
		return false
	}
}
