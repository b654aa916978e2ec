package host_test

import (
	"bufio"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// A process is found out to be in the handler of a signal, and not before, nor in that of another.
func TestInHandler(t *testing.T) {
	for name, test := range map[string]struct {
		signal unix.Signal
		want   bool
	}{"of the signal": {unix.SIGABRT, true}, "of another": {unix.SIGUSR1, false}} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("perl", "-MPOSIX", "-e", `$| = 1;
				sigaction($_, POSIX::SigAction->new(sub { syswrite STDOUT, "in\n"; select undef, undef, undef, 100 })) for SIGABRT, SIGUSR1;
				sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGSEGV)); # which it has no handler for
				print "ready\n";
				pause while 1`)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			end := func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			t.Cleanup(end)
			p, err := host.FindProcess(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			said := bufio.NewScanner(out)
			expect := func(line string, want bool) {
				t.Helper()
				if !said.Scan() || said.Text() != line {
					t.Fatalf("got %q, %v, want %q", said.Text(), said.Err(), line)
				}
				if in, err := p.InHandler(unix.SIGABRT, unix.SIGSEGV); in != want || err != nil {
					t.Errorf("%s: got %t, %v", line, in, err)
				}
			}
			expect("ready", false)
			if err := unix.Kill(p.PID, test.signal); err != nil {
				t.Fatal(err)
			}
			expect("in", test.want)
			end()
			if in, err := p.InHandler(unix.SIGABRT); in || err != nil {
				t.Errorf("of one that has ended: got %t, %v", in, err)
			}
		})
	}
}
