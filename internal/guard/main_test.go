package guard_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What the test binary does when it is started by a test, as its first
// argument after this one says.
const childArg = "as-a-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		child(os.Args[2], os.Args[3:])
	}
	os.Exit(m.Run())
}

func child(role string, args []string) {
	switch role {
	case "guard": // directory, reboot command; real, none or hung; watchdog; hard
		runGuard(args)
	case "write": // file
		writeOn(args[0])
	case "toil":
		toil()
	case "overdue": // directory
		overdue(args[0])
		runGuard([]string{args[0], "", "hung", "", "hard"})
	}
}

func runGuard(args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var cutter guard.Cutter = &cut.Cutter{Log: log}
	switch args[2] {
	case "none":
		cutter = newCutter()
	case "hung":
		cutter = hung{}
	}
	c := guard.Config{Dir: args[0], CutTime: time.Second, RebootCommand: args[1], Watchdog: args[3], Ready: func() { fmt.Println("ready") }}
	if args[4] == "hard" {
		guard.Harden(log)
	}
	if err := guard.Run(ctx, c, cutter, log); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// writeOn is a writer, as fast as its file takes it: the time, each time.
func writeOn(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		if _, err := f.WriteAt(fmt.Appendf(nil, "%20d", guard.BootTime()), 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// overdue gives an order that is due, and has little time.
func overdue(dir string) {
	b, err := guard.OpenBook(dir)
	if err == nil {
		err = b.Put(guard.Order{Volume: cut.Volume{ID: "a", Mountpoint: "/mnt/a"}, Deadline: guard.BootTime() + time.Second, CutTime: time.Second})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hung is a Cutter that waits for a storage that does not answer, whatever its
// caller says.
type hung struct{}

func (hung) Cut(context.Context, cut.Volume) (cut.Report, error) { select {} }
func (hung) Unblock(context.Context, cut.Volume) error           { select {} }

// eventually waits for what should be so soon.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// never makes sure that for a while something is not so.
func never(t testing.TB, while time.Duration, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if is() {
			t.Fatalf("it happened: %s", what)
		}
	}
}

// world is the directory of a book and what a reboot leaves in it.
type world struct {
	t    *testing.T
	dir  string
	book *guard.Book
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: hosttest.Dir(t)}
	t.Cleanup(w.awaitReboots)
	w.book = w.open()
	return w
}

func (w *world) guardDir() string { return filepath.Join(w.dir, "run", "guard") }

func (w *world) open() *guard.Book {
	w.t.Helper()
	b, err := guard.OpenBook(w.guardDir())
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// order is one whose lease goes on for a while.
func (w *world) order(id string, left time.Duration) guard.Order {
	return guard.Order{
		Volume:      cut.Volume{ID: id, Mountpoint: filepath.Join(w.dir, "mnt", id)},
		Incarnation: 1, Deadline: guard.BootTime() + left, CutTime: time.Second,
	}
}

func (w *world) put(o guard.Order) {
	w.t.Helper()
	if err := w.book.Put(o); err != nil {
		w.t.Fatal(err)
	}
}

// rebootCommand is a program that notes why it was called.
func (w *world) rebootCommand() string {
	w.t.Helper()
	path := filepath.Join(w.dir, "reboot")
	real, err := filepath.Abs("testdata/reboot")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.Symlink(real, path); err != nil && !os.IsExist(err) {
		w.t.Fatal(err)
	}
	return path
}

// reboots returns the reasons.
func (w *world) reboots() []string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "reboots"))
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")[:strings.Count(string(text), "\n")]
}

// awaitReboots waits for the ends of the commands of guards that are gone.
func (w *world) awaitReboots() {
	w.t.Helper()
	eventually(w.t, "the end of reboots", func() bool {
		commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			w.t.Fatal(err)
		}
		return !slices.ContainsFunc(commands, func(path string) bool {
			text, _ := os.ReadFile(path) // of a process that may have ended
			return bytes.Contains(text, []byte(filepath.Join(w.dir, "reboot")+"\x00"))
		})
	})
}

// verified tells whether the cut of a volume is.
func (w *world) verified(id string) bool {
	o, ok := w.book.Outcome(id)
	return ok && o.Verified != 0
}

func (w *world) file(name string) string { return filepath.Join(w.guardDir(), name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.file(name)+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(w.file(name)+".new", w.file(name)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.file(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}
