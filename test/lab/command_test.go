package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/test/lab"
)

// command is the lab command, with a lab of its own.
type command struct {
	t   *testing.T
	bin string
	dir string
}

// newCommand builds the command. Whatever it has started is down at the end.
func newCommand(t *testing.T) *command {
	t.Helper()
	lab.Require(t)
	// Not t.TempDir(), whose name is too long for sockets.
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	c := &command{t: t, bin: filepath.Join(t.TempDir(), "lab"), dir: filepath.Join(dir, "it")}
	t.Cleanup(func() {
		c.run("down")
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.Command("go", "build", "-o", c.bin, "./cmd/lab").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return c
}

// try runs a command of the lab within three minutes: a machine may have a lot to do.
func (c *command) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 3*time.Minute)
	if c.t.Context().Err() != nil { // at the end
		ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	}
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Env = append(os.Environ(), "DVOLD_LAB_DIR="+c.dir)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run runs one that must succeed.
func (c *command) run(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("lab %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// labStatus is what the tests read of the status.
type labStatus struct {
	Supervisor int
	Machines   []struct {
		Name, State string
		CutOff      []string `json:"cut_off"`
		Daemons     []string
		Frozen      []string
		Leader      bool
	}
}

func (c *command) status() (s labStatus) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.run("status", "--json")), &s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// wantRefused checks that each of the commands fails.
func (c *command) wantRefused(orders [][]string) {
	c.t.Helper()
	for _, order := range orders {
		if out, err := c.try(order...); err == nil {
			c.t.Errorf("%q: %s", order, out)
		}
	}
}

// wantDaemons checks what runs on a machine.
func (c *command) wantDaemons(machine string, want ...string) {
	c.t.Helper()
	for _, m := range c.status().Machines {
		if m.Name == machine && !slices.Equal(m.Daemons, want) {
			c.t.Errorf("on %s run %q, want %q", machine, m.Daemons, want)
		}
	}
}

// wantGone checks that nothing is left of the lab with the given groups.
func (c *command) wantGone(groups []string) {
	c.t.Helper()
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		c.t.Errorf("the directory is left over (%v)", err)
	}
	for _, group := range groups {
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			if left, _ := filepath.Glob(pattern + group); left != nil {
				c.t.Errorf("left over: %v", left)
			}
		}
	}
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range environs {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "="+c.dir+"/") {
			name, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			c.t.Errorf("left over: process %s %q", file, name)
		}
	}
	if mounts, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(mounts), c.dir) {
		c.t.Errorf("mounts are left over:\n%s", mounts)
	}
}

// groups are the cgroups of a lab that is up.
func (c *command) groups() []string {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, "*/machine.json"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("no machines in %s (%v)", c.dir, err)
	}
	var all []string
	for _, file := range files {
		var r struct{ Group string }
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, r.Group)
	}
	return all
}

func TestCommandFromUpToDown(t *testing.T) {
	t.Parallel()
	c := newCommand(t)
	consul := consultest.Binary(t)
	if out, err := c.try("status"); err == nil {
		t.Errorf("status without a lab: %s", out)
	}
	c.run("up", "--hosts", "2", "--servers", "1", "--consul", consul)
	groups := c.groups()
	if out := c.run("up"); !strings.Contains(out, "is up") {
		t.Errorf("up when it is up: %s", out)
	}
	c.run("exec", "h1", "docker", "run", "--rm", "-v", "/shared:/shared", lab.BusyBox, "sh", "-c", "echo hello >/shared/x")
	if out := c.run("exec", "h2", "cat", "/shared/x"); out != "hello\n" {
		t.Errorf("h2 reads %q", out)
	}
	_, err := c.try("exec", "h2", "sh", "-c", "exit 7")
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 7 {
		t.Errorf("exec of what exits with 7: %v", err)
	}
	wantState := func(name, state string, cut ...string) {
		t.Helper()
		for _, m := range c.status().Machines {
			if m.Name == name && (m.State != state || !slices.Equal(m.CutOff, cut)) {
				t.Errorf("%s is %s, cut off from %v; want %s, %v", name, m.State, m.CutOff, state, cut)
			}
		}
	}
	for _, step := range []struct {
		order []string
		state string
		cut   []string
	}{
		{[]string{"cut", "h1", "consul"}, "up", []string{"consul"}},
		{[]string{"cut", "h1"}, "up", []string{"all", "consul"}},
		{[]string{"freeze", "h1"}, "frozen", []string{"all", "consul"}},
		{[]string{"heal", "h1"}, "frozen", nil},
		{[]string{"thaw", "h1"}, "up", nil},
		{[]string{"kill", "h1"}, "down", nil},
		{[]string{"reboot", "h1"}, "up", nil},
		{[]string{"reboot", "h1"}, "up", nil},
	} {
		c.run(step.order...)
		wantState("h1", step.state, step.cut...)
	}
	c.run("exec", "h1", "docker", "ps")
	if s := c.status(); !slices.Contains(s.Machines[0].Daemons, "consul") || !s.Machines[2].Leader {
		t.Errorf("status after all: %+v", s)
	}
	c.run("down")
	c.wantGone(groups)
	c.run("down")
}

func TestDownWithoutSupervisor(t *testing.T) {
	t.Parallel()
	c := newCommand(t)
	c.run("up", "--hosts", "2", "--servers", "0")
	groups := c.groups()
	c.run("exec", "h1", "docker", "run", "-d", lab.BusyBox, "sleep", "1000")
	c.run("freeze", "h1")
	supervisor := c.status().Supervisor
	if err := unix.Kill(supervisor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the supervisor's end", func() bool { _, err := c.try("status"); return err != nil })
	c.run("down")
	c.wantGone(groups)
	c.run("up", "--hosts", "1", "--servers", "0")
	c.run("down")
}

func TestDownRefusesForeignDirectory(t *testing.T) {
	c := newCommand(t)
	file := filepath.Join(c.dir, "precious")
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, order := range []string{"up", "down"} {
		if out, err := c.try(order); err == nil {
			t.Errorf("%s: %s", order, out)
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		t.Error(err)
	}
}

func TestUpAndDownBesideHungFileSystem(t *testing.T) {
	c := newCommand(t)
	point := hang(t)
	for _, order := range [][]string{{"up", "--hosts", "1", "--servers", "0"}, {"down"}} {
		out := c.run(order...)
		if !strings.Contains(out, "warning: the file system at "+point) {
			t.Errorf("%s doesn't warn: %s", order[0], out)
		}
	}
}

// hang mounts a file system whose server never answers, and returns where.
func hang(t *testing.T) string {
	t.Helper()
	server, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	t.Cleanup(func() { server.Close() })
	point := t.TempDir()
	data := "user_id=0,group_id=0,rootmode=40000,fd=" + strconv.Itoa(int(server.Fd()))
	if err := unix.Mount("silent", point, "fuse.silent", 0, data); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return point
}
