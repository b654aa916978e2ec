package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Only root can read a description or know of it, whatever the umask.
func TestDescriptionModes(t *testing.T) {
	hosttest.Root(t) // a umask may hide a directory from its maker
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	mkdir(t, path, "descriptions", 0o777)
	for _, mask := range []int{0, 0o777} {
		before := unix.Umask(mask)
		describe(t, p, "text")
		unix.Umask(before)
		for name, want := range map[string]fs.FileMode{
			"descriptions": fs.ModeDir | 0o700, "descriptions/" + id + ".json": 0o600, "work": fs.ModeDir | 0o700,
		} {
			if info, err := os.Lstat(filepath.Join(path, name)); err != nil || info.Mode() != want {
				t.Errorf("umask %o: %s: got %v, %v, want %v", mask, name, info, err, want)
			}
		}
	}
	expectEntries(t, filepath.Join(path, "work"))
}

// What Describe can't have written is passed over, or told where it stands in
// the place of a description. Neither keeps anyone from the others.
func TestForeignDescriptions(t *testing.T) {
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	describe(t, p, "text")
	dir := filepath.Join(path, "descriptions")
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"README", id, id + ".json.bak", "." + id + ".json", ".nfs0123456789ab", "x.json", id + ".JSON", "description-LEFT"} {
		put(name, "foreign")
	}
	mkdir(t, dir, "lost+found", 0o700)
	if got, err := p.Descriptions(t.Context()); err != nil || len(got) != 1 || string(got[id]) != "text" {
		t.Errorf("with foreign files: got %q, %v", got, err)
	}

	bad := []string{"empty.0123456789ab", "large.0123456789ab", "dir.0123456789ab", "link.0123456789ab", "fifo.0123456789ab"}
	put(bad[0]+".json", "")
	put(bad[1]+".json", strings.Repeat("x", backends.MaxDescription+1))
	mkdir(t, dir, bad[2]+".json", 0o700)
	if err := os.Symlink(id+".json", filepath.Join(dir, bad[3]+".json")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, bad[4]+".json"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := p.Descriptions(t.Context())
	if len(got) != 1 || string(got[id]) != "text" {
		t.Errorf("with bad files: got %q", got)
	}
	for _, id := range bad {
		if err == nil || !strings.Contains(err.Error(), id) {
			t.Errorf("got error %v, want %s in it", err, id)
		}
	}
}

// Links lead neither a writer nor a reader out, and a description takes the
// place of a link.
func TestDescriptionSymlinks(t *testing.T) {
	for _, link := range []string{"descriptions", "work", "descriptions/" + id + ".json"} {
		t.Run(link, func(t *testing.T) {
			path, outside := hosttest.Dir(t), hosttest.Dir(t)
			secret := filepath.Join(outside, id+".json")
			if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			to, last := outside, strings.HasSuffix(link, ".json")
			if last {
				mkdir(t, path, "descriptions", 0o700)
				to = secret
			}
			if err := os.Symlink(to, filepath.Join(path, link)); err != nil {
				t.Fatal(err)
			}
			p := openPool(t, local.Config{Path: path})
			if got, _ := p.Descriptions(t.Context()); len(got) > 0 {
				t.Errorf("read through a link: %q", got)
			}
			if err := p.Describe(t.Context(), id, []byte("text")); (err == nil) != last {
				t.Errorf("describe: got %v", err)
			}
			_ = p.Describe(t.Context(), id, nil) // whatever it says
			expectEntries(t, outside, id+".json")
			if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
				t.Errorf("outside: got %q, %v", got, err)
			}
		})
	}
}

// What a crash left of a draft is ignored, and removed when it is old; younger
// ones may be another host's. Nothing else in work is touched.
func TestDraftsAreSwept(t *testing.T) {
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	describe(t, p, "text")
	work := filepath.Join(path, "work")
	now := time.Now()
	for name, age := range map[string]time.Duration{
		"description-OLD": 25 * time.Hour, "description-YOUNG": 23 * time.Hour, "description-AHEAD": -time.Hour, "other": 99 * time.Hour,
	} {
		file := filepath.Join(work, name)
		if err := errors.Join(os.WriteFile(file, []byte("te"), 0o600), os.Chtimes(file, now, now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(t, work, "description-dir", 0o700)
	if err := os.Chtimes(filepath.Join(work, "description-dir"), now, now.Add(-99*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Descriptions(t.Context()); err != nil || len(got) != 1 || string(got[id]) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	describe(t, p, "more")
	expectEntries(t, work, "description-AHEAD", "description-YOUNG", "description-dir", "other")
}

// A full file system keeps the old text whole.
func TestDescribeWithoutSpace(t *testing.T) {
	hosttest.Root(t)
	path := hosttest.Tmpfs(t, "size=64k")
	p := openPool(t, local.Config{Path: path})
	describe(t, p, "old")
	err := p.Describe(t.Context(), id, bytes.Repeat([]byte("x"), backends.MaxDescription))
	if !errors.Is(err, backends.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, backends.ErrNoSpace)
	}
	expectEntries(t, filepath.Join(path, "work"))
	if got, err := p.Descriptions(t.Context()); err != nil || string(got[id]) != "old" {
		t.Errorf("got %q, %v", got[id], err)
	}
}

// describeFor is the variable that makes TestDescribeKilled the process which
// is killed: it describes into the pool there, on and on.
const describeFor = "LOCAL_TEST_DESCRIBE"

// A writer killed at any moment leaves one whole text. It is killed until it
// was caught in the middle some times.
func TestDescribeKilled(t *testing.T) {
	texts := [][]byte{bytes.Repeat([]byte("a"), backends.MaxDescription), bytes.Repeat([]byte("b"), backends.MaxDescription/2)}
	if path := os.Getenv(describeFor); path != "" {
		p := openPool(t, local.Config{Path: path})
		for i := 0; ; i++ {
			if err := p.Describe(t.Context(), id, texts[i%2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	describe(t, p, string(texts[0]))
	const wanted = 5
	caught := 0
	for round := 0; caught < wanted; round++ {
		if round == 200 {
			t.Fatalf("the writer was caught in the middle %d times in %d, want %d", caught, round, wanted)
		}
		killWriter(t, path)
		drafts, err := filepath.Glob(filepath.Join(path, "work", "description-*"))
		if err != nil || len(drafts) > 1 {
			t.Fatalf("got drafts %q, %v, want at most one", drafts, err)
		}
		caught += len(drafts)
		got, err := p.Descriptions(t.Context())
		if text := got[id]; err != nil || len(got) != 1 || !bytes.Equal(text, texts[0]) && !bytes.Equal(text, texts[1]) {
			t.Fatalf("round %d: got %d descriptions, %d bytes %.10q, %v", round, len(got), len(text), text, err)
		}
		for _, draft := range drafts {
			if err := os.Remove(draft); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// killWriter lets a process describe, and kills it at some moment after the
// first text of its own.
func killWriter(t *testing.T, path string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(path, "descriptions", id+".json")
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	writer := exec.CommandContext(t.Context(), exe, "-test.run=^TestDescribeKilled$")
	writer.Env = append(os.Environ(), fmt.Sprintf("%s=%s", describeFor, path))
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	for started := time.Now(); ; time.Sleep(time.Millisecond) {
		now, err := os.Stat(file)
		if err != nil || time.Since(started) > 20*time.Second {
			t.Errorf("the writer wrote nothing: %v", err)
			break
		}
		if !os.SameFile(before, now) {
			break
		}
	}
	time.Sleep(rand.N(5 * time.Millisecond)) // the moment is the point
	if err := writer.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = writer.Wait() // reports the kill
}

func describe(t *testing.T, p *local.Pool, text string) {
	t.Helper()
	if err := p.Describe(t.Context(), id, []byte(text)); err != nil {
		t.Fatal(err)
	}
}
