package guard_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Nothing that a machine in distress lacks keeps the guard from running.
func TestHarden(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	binary := filepath.Join(w.dir, "guard.test")
	buildPlain(t, binary)
	g := w.guardBinary(binary, "real", "", "hard")
	dir := fmt.Sprintf("/proc/%d/", g.Process.Pid)
	if threads, err := os.ReadDir(dir + "task"); err != nil || len(threads) < 16 {
		t.Errorf("it has %d threads: %v", len(threads), err)
	}
	o, writer := w.volume("a", 200*time.Millisecond)
	w.put(o)
	w.wantCut(o, writer)
	if got := w.reboots(); len(got) != 0 {
		t.Errorf("rebooted: %q", got)
	}

	wantLocked(t, dir)
	if got := read(t, dir+"oom_score_adj"); got != "-1000" && capable(t, unix.CAP_SYS_RESOURCE) {
		t.Errorf("oom_score_adj is %s", got)
	}
	threads, err := os.ReadDir(dir + "task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		attr, err := unix.SchedGetAttr(tid, 0)
		if err != nil || attr.Policy != unix.SCHED_RR || attr.Priority != 1 {
			t.Errorf("thread %d: %+v, %v", tid, attr, err)
		}
	}
}

// On a machine of one processor its threads do not wait for each other for ever:
// with SCHED_FIFO, and two of them that run Go, they do within the first second.
func TestHardenOneProcessor(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	binary := filepath.Join(hosttest.Dir(t), "guard.test")
	buildPlain(t, binary)
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	first := 0
	for !all.IsSet(first) {
		first++
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "taskset", "--cpu-list", strconv.Itoa(first), binary, childArg, "toil").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// toil makes much for the collector to do, as a guard does in days, and says how long
// it stood still at most.
func toil() {
	guard.Harden(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	const work, pause = 2 * time.Second, 5 * time.Millisecond
	var worst time.Duration
	kept := make([][]byte, 1000)
	for begin, last := time.Now(), time.Now(); time.Since(begin) < work; last = time.Now() {
		for i := range 200 {
			kept[i*5] = make([]byte, 4096+8*i)
			if _, err := os.ReadFile("/proc/self/stat"); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		time.Sleep(pause)
		worst = max(worst, time.Since(last))
	}
	fmt.Println("it stood still for", worst)
	os.Exit(0)
}

// wantLocked fails the test unless all that a process has in memory is locked
// there, and is not much.
func wantLocked(t *testing.T, dir string) {
	t.Helper()
	var resident, own int
	for _, m := range regexp.MustCompile(`(?ms)^[0-9a-f]+-[0-9a-f]+ .*?^VmFlags: [a-z ]+$`).FindAllString(read(t, dir+"smaps"), -1) {
		title, _, _ := strings.Cut(m, "\n")
		size, err := strconv.Atoi(regexp.MustCompile(`(?m)^Rss: +(\d+) kB$`).FindStringSubmatch(m)[1])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(title, "[v") { // the kernel's
			continue
		}
		if size > 0 && !strings.Contains(m, " lo ") {
			t.Errorf("%d KiB are not locked: %s", size, title)
		}
		resident += size
		if !strings.Contains(title, "/") {
			own += size
		}
	}
	t.Logf("%d KiB are in memory, %d KiB without the program's file", resident, own)
	const reserve = 8 << 10
	if own < reserve || own > 32<<10 {
		t.Errorf("it has %d KiB of its own", own)
	}
	if text := read(t, dir+"status"); !strings.Contains(text, "VmSwap:\t       0 kB") {
		t.Errorf("it was swapped out: %s", text)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// capable tells whether this process has a capability.
func capable(t *testing.T, capability uint) bool {
	t.Helper()
	m := regexp.MustCompile(`(?m)^CapEff:\s+([0-9a-f]+)$`).FindStringSubmatch(read(t, "/proc/self/status"))
	set, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set&(1<<capability) != 0
}
