package gluster_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// asking is how many processes ask a file system whether it answers.
func asking(t *testing.T, mountpoint string) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		args, _ := os.ReadFile(file) // it may have ended
		if bytes.HasPrefix(args, []byte("stat\x00")) && bytes.HasSuffix(args, []byte(mountpoint+"\x00")) {
			n++
		}
	}
	return n
}

// Storage that hangs is found out in time, by nothing that piles up, and so is that
// it answers again.
func TestSilentStorage(t *testing.T) {
	p := newPool(t, nil)
	p.mount(p.create("data"), backends.MountOptions{})
	mountpoint := gluster.SharedPoint(t, p.Pool)
	frozen := time.Now()
	t.Run("frozen", func(t *testing.T) {
		for _, node := range []string{"g1", "g2", "g3"} {
			for _, pid := range brickProcesses(t, node, "gv0") {
				hosttest.Freeze(t, pid)
			}
		}
		p.eventually("it is known", func() bool { return p.Silent() > 0 })
		t.Logf("it is known after %v", time.Since(frozen))
		time.Sleep(2 * gluster.AskInterval)
		if n := asking(t, mountpoint); n != 1 {
			t.Errorf("%d processes ask, want 1", n)
		}
		if silent := p.Silent(); silent < 2*gluster.AskInterval || silent > time.Since(frozen) {
			t.Errorf("it is silent for %v, and frozen for %v", silent, time.Since(frozen))
		}
	})
	p.eventually("it answers again", func() bool { return p.Silent() == 0 && asking(t, mountpoint) == 0 })
}
