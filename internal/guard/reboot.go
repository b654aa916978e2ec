package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/program"
)

const (
	rebootRetry = time.Second      // after one that failed
	rebootAgain = 30 * time.Second // after one that said it would
	rebootTime  = 10 * time.Second // of a command
	lastWords   = 100 * time.Millisecond
)

// reboot ends this machine, for it may write to volumes that others have. Its
// methods are for one goroutine.
type reboot struct {
	do     func(ctx context.Context, reason string) error
	log    *slog.Logger
	cancel context.CancelFunc // nil unless it is under way
}

func newReboot(command string, log *slog.Logger) *reboot {
	if command != "" {
		return &reboot{do: byCommand(command), log: log}
	}
	return &reboot{do: openKernel(log).reboot, log: log}
}

// start reboots, again and again until stop.
func (r *reboot) start(ctx context.Context, reason string) {
	if r.cancel != nil {
		return
	}
	r.log.Error("this host reboots", "reason", reason)
	ctx, r.cancel = context.WithCancel(ctx)
	go func() { // not waited for: a machine that is to die may hang
		for {
			pause := rebootAgain
			// Half a reboot would be worse than one too many.
			if err := r.do(context.WithoutCancel(ctx), reason); err != nil {
				r.log.Error("this host did not reboot", "err", err)
				pause = rebootRetry
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}()
}

// stop takes the decision back, if it is not too late.
func (r *reboot) stop() {
	if r.cancel != nil {
		r.cancel()
		r.cancel = nil
	}
}

// byCommand reboots by a program. What that leaves in the background goes on, for
// it may be the reboot, also if it is killed for it took too long.
func byCommand(path string) func(context.Context, string) error {
	return func(ctx context.Context, reason string) error {
		ctx, cancel := context.WithTimeout(ctx, rebootTime)
		defer cancel()
		if err := program.Answers(ctx, path, rebootTime); err != nil { // or it might be the end of the guard's other work
			return err
		}
		cmd := exec.CommandContext(ctx, path, reason)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", path, err, strings.TrimSpace(string(out)))
		}
		return nil
	}
}

// kernel is the kernel's own reboot. Its files are opened before anything hangs.
type kernel struct {
	trigger *os.File // sysrq; nil if this kernel has none
	console *os.File // kmsg; nil if there is none
	restart func() error
}

func openKernel(log *slog.Logger) *kernel {
	k := &kernel{restart: func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) }}
	var err error
	// What kernel.sysrq allows is the keyboard's only: admin-guide/sysrq.rst.
	if k.trigger, err = os.OpenFile("/proc/sysrq-trigger", os.O_WRONLY, 0); err != nil {
		log.Warn("the machine could only be rebooted by reboot(2), which may wait for devices", "err", err)
	}
	k.console, _ = os.OpenFile("/dev/kmsg", os.O_WRONLY, 0) // only for a last word
	return k
}

// reboot does not sync: what writers that are dead have left in memory is not to
// reach the storage any more.
func (k *kernel) reboot(_ context.Context, reason string) error {
	go k.say(reason) // a console may be slow
	time.Sleep(lastWords)
	err := errors.New("there is no sysrq")
	if k.trigger != nil {
		_, err = k.trigger.WriteString("b")
	}
	if err != nil {
		return errors.Join(err, os.NewSyscallError("reboot", k.restart()))
	}
	return nil
}

func (k *kernel) say(reason string) {
	if k.console != nil {
		fmt.Fprintf(k.console, "<0>dvold guard: this host reboots: %s\n", reason)
	}
}
