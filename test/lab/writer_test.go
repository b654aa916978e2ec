package lab_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// beats is the command beat on a host, with a file of the storage.
type beats struct {
	file   string        // on the server
	errors syncBuffer    // what it says is wrong
	ended  chan struct{} // closed when it has ended
}

// startBeats starts it, and waits for its first beat.
func startBeats(t *testing.T, c *lab.Cluster, h *lab.Host, name string) *beats {
	t.Helper()
	b := &beats{file: c.Storage().Data(name), ended: make(chan struct{})}
	cmd := h.Command(context.WithoutCancel(t.Context()), beatBinary(t), "-host", h.Name(), "/dfs/"+name, "10ms")
	cmd.Stderr = &b.errors
	check(t, h.Start(cmd))
	go func() {
		defer close(b.ended)
		cmd.Wait() // reports the kill
	}()
	t.Cleanup(func() {
		if b.hasEnded() && h.Up() {
			t.Errorf("beat on %s ended early: %v", h.Name(), cmd.ProcessState)
		}
		check(t, h.Kill()) // it may hang
		<-b.ended
	})
	b.wantMore(t)
	return b
}

func (b *beats) hasEnded() bool {
	select {
	case <-b.ended:
		return true
	default:
		return false
	}
}

func (b *beats) wantMore(t *testing.T) {
	t.Helper()
	size := fileSize(t, b.file)
	eventually(t, "beats in "+b.file, func() bool { return fileSize(t, b.file) > size+200 })
}

// wantSilence checks that nothing is written for some time, but for what was
// under way before.
func (b *beats) wantSilence(t *testing.T, d time.Duration) {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	size := fileSize(t, b.file)
	time.Sleep(d)
	if now := fileSize(t, b.file); now != size {
		t.Errorf("%s grew from %d to %d bytes", b.file, size, now)
	}
}

// wantSound checks that all that was written is whole.
func (b *beats) wantSound(t *testing.T) {
	t.Helper()
	if all, err := lab.Beats(b.file); err != nil || len(all) == 0 {
		t.Errorf("%d beats: %v", len(all), err)
	}
}

func contents(t *testing.T, all []*beats) (texts [][]byte) {
	t.Helper()
	for _, b := range all {
		text, err := os.ReadFile(b.file)
		check(t, err)
		texts = append(texts, text)
	}
	return texts
}
