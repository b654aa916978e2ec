package cut

import (
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// BenchmarkLook is one look at a machine that has 500 processes more than it has
// otherwise, of which one in ten has a mount namespace of its own.
func BenchmarkLook(b *testing.B) {
	hosttest.Root(b)
	for i := range 500 {
		command := exec.Command("sleep", "infinity")
		if i%10 == 0 {
			command = exec.Command("unshare", "--mount", "sleep", "infinity")
		}
		if err := command.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = command.Process.Kill()
			_ = command.Wait()
		})
	}
	b.Run("root file system", func(b *testing.B) { benchmarkLook(b, hosttest.Dir(b)) })
	b.Run("another", func(b *testing.B) { benchmarkLook(b, hosttest.Tmpfs(b, "")) })
}

// benchmarkLook looks for who has a directory.
func benchmarkLook(b *testing.B, source string) {
	target := hosttest.Dir(b)
	if err := unix.Mount(hosttest.Subdir(b, source, "volume"), target, "", unix.MS_BIND, ""); err != nil {
		b.Fatal(err)
	}
	v, err := Volume{ID: "bench", Mountpoint: target}.Identified()
	if err != nil {
		b.Fatal(err)
	}
	c := &Cutter{Log: slog.New(slog.DiscardHandler)}
	begin := processorTime(b)
	for b.Loop() {
		r := newRun(c, v, new(ledger))
		l, err := r.survey(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		err = l.holders(b.Context(), func(h holder, _ dir) error {
			if h.PID != os.Getpid() {
				b.Errorf("%v", h)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		r.leave(b.Context(), l)
	}
	b.ReportMetric(float64(processorTime(b)-begin)/float64(time.Millisecond)/float64(b.N), "processor-ms/op")
	processes := 0
	if err := eachProcess(b.Context(), func(*process) error { processes++; return nil }); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(processes), "processes")
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
