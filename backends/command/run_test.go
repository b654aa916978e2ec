package command_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/command"
	"github.com/dvol/dvold/internal/host"
)

// soon is how long a call may take that has to end at once, on a slow machine.
const soon = 10 * time.Second

// expectSoon runs what must not wait for what it started.
func expectSoon(t *testing.T, do func() error) error {
	t.Helper()
	began := time.Now()
	err := do()
	if took := time.Since(began); took > soon {
		t.Errorf("it returned after %v", took)
	}
	return err
}

// limited is a fencer with little patience.
func limited(timeout time.Duration, argv ...string) *command.Fencer {
	return command.Open(command.Config{Argv: argv, Timeout: timeout, Covers: "host"}, pool, slog.New(slog.DiscardHandler))
}

func TestExitStatus(t *testing.T) {
	for text, want := range map[string]string{
		"exit 0":                        "",
		"echo no >&2; exit 0":           "",
		"exit 1":                        "exit status 1",
		"exit 3":                        "exit status 3",
		"exit 255":                      "exit status 255",
		"echo starting; exit 3":         "exit status 3: starting",
		"echo a; echo b >&2; exit 3":    "exit status 3: b",
		"printf 'a\n b \n\n\t'; exit 3": "exit status 3: b",
		"kill -9 $$":                    "signal: killed",
		"kill -15 $$":                   "signal: terminated",
		"no-such-program":               "exit status 127: FENCE: 2: no-such-program: not found",
		`printf 'a\tb\033[1mc\377\342\200\256d\r'; exit 3`: `exit status 3: a\tb\x1b[1mc\xff\u202ed`,
	} {
		fence := script(t, text)
		f := aFence()
		for action, do := range map[string]func(context.Context, backends.Fence) error{"fence": open("host", fence).Fence, "unfence": open("host", fence).Unfence} {
			err := do(t.Context(), f)
			full := fmt.Sprintf(`%s host "h1" by %s: %s`, action, fence, strings.ReplaceAll(want, "FENCE", fence))
			if (err == nil) != (want == "") || err != nil && err.Error() != full {
				t.Errorf("%s: got %v, want %s", text, err, full)
			}
		}
	}
}

// What can't be started is not fenced either.
func TestNotStarted(t *testing.T) {
	fence := script(t, "exit 0")
	if err := os.WriteFile(fence, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := open("host", fence).Fence(t.Context(), aFence()); err == nil {
		t.Error("no interpreter: got no error")
	}
	f := aFence()
	f.Handle = "a\x00b"
	if err := open("host", script(t, "exit 0")).Fence(t.Context(), f); err == nil {
		t.Error("a zero byte: got no error")
	}
}

// An error has at most 200 bytes of what the command said, in whole characters.
func TestLongLine(t *testing.T) {
	for _, long := range []string{strings.Repeat("x", 200), strings.Repeat("x", 201), strings.Repeat("ö", 101), strings.Repeat("\x01", 100), strings.Repeat("x", 100_000), strings.Repeat("ö", 10_000)} {
		file := filepath.Join(t.TempDir(), "line")
		if err := os.WriteFile(file, []byte("before\n"+long+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := open("host", script(t, "cat "+file+"; exit 3")).Fence(t.Context(), aFence())
		_, said, _ := strings.Cut(fmt.Sprint(err), "exit status 3: ")
		if len(said) < 190 || len(said) > 200 || strings.ContainsRune(said, '\uFFFD') || (len(long) > 200) != strings.HasSuffix(said, "…") && long[0] != 1 {
			t.Errorf("%d bytes %.3q: got %d bytes %q", len(long), long, len(said), said)
		}
	}
}

// All that the command started is killed when the time is over.
func TestHang(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	fence := script(t, "trap '' TERM INT HUP\nsleep 1000 &\necho $$ $! >"+pids+"\necho waiting\nwait; sleep 1000")
	err := expectSoon(t, func() error { return limited(time.Second, fence).Fence(t.Context(), aFence()) })
	if err == nil || !strings.HasSuffix(err.Error(), ": no answer within 1s: waiting") {
		t.Errorf("got %v", err)
	}
	expectGone(t, pids, 2)
}

// Whoever ignores SIGTERM and says yes after the time is killed before that.
func TestLateYes(t *testing.T) {
	dir := t.TempDir()
	fence := script(t, "trap '' TERM\necho $$ >"+dir+"/pids\nsleep 2\necho >"+dir+"/late\nexit 0")
	err := expectSoon(t, func() error { return limited(time.Second, fence).Fence(t.Context(), aFence()) })
	if err == nil || !strings.HasSuffix(err.Error(), ": no answer within 1s") {
		t.Errorf("got %v", err)
	}
	expectGone(t, dir+"/pids", 1)
	if _, err := os.Stat(dir + "/late"); err == nil {
		t.Error("it went on after the timeout")
	}
}

// What the command leaves in its process group is killed; what escaped and
// keeps the output open is not waited for. The answer is the command's.
func TestOutputKeptOpen(t *testing.T) {
	for name, start := range map[string]string{"in its group": "", "escaped": "setsid "} {
		for status, want := range map[string]bool{"0": true, "3": false} {
			t.Run(name+" "+status, func(t *testing.T) {
				pids := filepath.Join(t.TempDir(), "pids")
				fence := script(t, start+"sh -c 'echo $$ >"+pids+"; exec sleep 1000' &\nuntil [ -s "+pids+" ]; do sleep 0.01; done\nexit "+status)
				t.Cleanup(func() { kill(t, pids) })
				err := expectSoon(t, func() error { return limited(time.Minute, fence).Fence(t.Context(), aFence()) })
				if (err == nil) != want {
					t.Errorf("got %v", err)
				}
				if start == "" {
					expectGone(t, pids, 1)
				}
			})
		}
	}
}

// However much the command writes, dvold does not keep it.
func TestFlood(t *testing.T) {
	fence := script(t, "head -c 1073741824 /dev/zero; echo; echo done; exit 3")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := limited(time.Minute, fence).Fence(t.Context(), aFence())
	runtime.ReadMemStats(&after)
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 3: done") {
		t.Errorf("got %v", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d bytes were allocated for it", got)
	}
}

func TestFloodWithoutEnd(t *testing.T) {
	err := expectSoon(t, func() error { return limited(time.Second, script(t, "exec yes")).Fence(t.Context(), aFence()) })
	if err == nil || !strings.HasSuffix(err.Error(), ": no answer within 1s: y") {
		t.Errorf("got %v", err)
	}
}

func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	fence := open("host", script(t, "echo $$ >"+dir+"/pids\nexec sleep 1000"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fence.Fence(ended, aFence()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: got %v", err)
	}
	if _, err := os.Stat(dir + "/pids"); err == nil {
		t.Error("cancelled before, and it ran")
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		waitFor(dir + "/pids")
		cancel()
	}()
	if err := expectSoon(t, func() error { return fence.Fence(ctx, aFence()) }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	expectGone(t, dir+"/pids", 1)

	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := expectSoon(t, func() error { return fence.Fence(short, aFence()) }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at the caller's deadline: got %v", err)
	}
}

// The command is told what is documented, and nothing of dvold's own.
func TestEnvironment(t *testing.T) {
	t.Setenv("DVOL_SECRET", "x")
	t.Setenv("DVOL_HOST", "dvold's own")
	out := filepath.Join(t.TempDir(), "out")
	fence := script(t, `{ tr '\0' '\n' </proc/$$/environ; echo "[$#] $*"; pwd -P; wc -c; } >`+out)
	f := aFence()
	f.Handle, f.Identity.Facts = "old data/größe", map[string]string{"ipmi": "10.0.0.7", "Switch-Port.2": "a b\nc"}
	for action, do := range map[string]func(context.Context, backends.Fence) error{
		"fence": open("host", fence, "$HOME; echo", "*").Fence, "unfence": open("host", fence, "$HOME; echo", "*").Unfence,
	} {
		if err := do(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		want := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nDVOL_ACTION=" + action + `
DVOL_HOST=h1
DVOL_INCARNATION=7
DVOL_POOL=data
DVOL_VOLUME=db
DVOL_VOLUME_ID=db.0123456789ab
DVOL_HANDLE=old data/größe
DVOL_DOMAIN=volume/data/x
DVOL_EPOCH=3
DVOL_FACT_SWITCH_PORT_2=a b
c
DVOL_FACT_IPMI=10.0.0.7
[2] $HOME; echo *
/
0
`
		if string(text) != want {
			t.Errorf("%s: got\n%s\nwant\n%s", action, text, want)
		}
	}
	f.Identity.Facts = map[string]string{"a-b": "", "a_b": ""}
	if err := open("host", fence).Fence(t.Context(), f); err == nil || !strings.Contains(err.Error(), "DVOL_FACT_A_B") {
		t.Errorf("two facts of one name: got %v", err)
	}
}

// Calls at once get each their own answer.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	fencer := open("host", script(t, `echo "$DVOL_FACT_N" >`+dir+`/$DVOL_VOLUME; echo "said $DVOL_FACT_N"; exit $DVOL_EPOCH`))
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			f := aFence()
			f.Volume, f.Epoch, f.Identity.Facts = fmt.Sprintf("v%d", n), uint64(n), map[string]string{"n": strconv.Itoa(n)}
			err := fencer.Fence(t.Context(), f)
			if want := fmt.Sprintf("exit status %d: said %d", n, n); (err == nil) != (n == 0) || err != nil && !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%d: got %v", n, err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, f.Volume)); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(n) {
				t.Errorf("%d: got %q, %v", n, text, err)
			}
		})
	}
	all.Wait()
}

func TestLog(t *testing.T) {
	var log bytes.Buffer
	c := command.Config{Argv: []string{script(t, "echo off; exit 0")}, Timeout: time.Minute, Covers: "host"}
	if err := command.Open(c, pool, slog.New(slog.NewTextHandler(&log, nil))).Fence(t.Context(), aFence()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level=INFO", "action=fence", "host=h1", "volume=db", "said=off"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("got %q, want %s in it", log.String(), want)
		}
	}
}

// waitFor waits for a file with something in it, and returns that.
func waitFor(path string) string {
	for began := time.Now(); time.Since(began) < soon; time.Sleep(5 * time.Millisecond) {
		if text, err := os.ReadFile(path); err == nil && strings.HasSuffix(string(text), "\n") {
			return string(text)
		}
	}
	return ""
}

func pidsIn(t *testing.T, path string) (pids []int) {
	t.Helper()
	for field := range strings.FieldsSeq(waitFor(path)) {
		pid, err := strconv.Atoi(field)
		if err != nil || pid <= 1 {
			t.Fatalf("%q is not a process", field)
		}
		pids = append(pids, pid)
	}
	return pids
}

// expectGone waits until the processes that the file names, count of them, are
// gone, or nothing but zombies, which are init's.
func expectGone(t *testing.T, path string, count int) {
	t.Helper()
	pids := pidsIn(t, path)
	if len(pids) != count {
		t.Fatalf("got processes %v, want %d", pids, count)
	}
	gone := func(pid int) bool {
		_, err := host.FindProcess(pid)
		return errors.Is(err, os.ErrNotExist)
	}
	for began := time.Now(); time.Since(began) < soon; time.Sleep(5 * time.Millisecond) {
		if !slices.ContainsFunc(pids, func(pid int) bool { return !gone(pid) }) {
			return
		}
	}
	t.Errorf("of processes %v some are still there", pids)
}

// kill ends what a test let escape.
func kill(t *testing.T, path string) {
	t.Helper()
	for _, pid := range pidsIn(t, path) {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill() // it may be gone
		}
	}
}
