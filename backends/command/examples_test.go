package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/command"
)

// example returns a fencer that runs a program of examples/fence, for which the
// tools, scripts by name, stand in for those of the same names.
func example(t *testing.T, tools map[string]string, timeout time.Duration, name string, args ...string) *command.Fencer {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("../../examples/fence", name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for tool, text := range tools {
		if err := os.WriteFile(filepath.Join(dir, tool), []byte("#!/bin/bash\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	wrapper := script(t, "PATH="+dir+":$PATH\nexec "+program+` "$@"`)
	return limited(timeout, append([]string{wrapper}, args...)...)
}

// fenceOf is a fence of a stay of a host.
func fenceOf(host string, incarnation uint64, facts map[string]string) backends.Fence {
	f := aFence()
	f.Host, f.Incarnation, f.Identity.Facts = host, incarnation, facts
	return f
}

// What fence-ssh asks for, fence-server does at the other end of ssh.
func TestExampleSSH(t *testing.T) {
	dir := t.TempDir()
	server, err := filepath.Abs("../../examples/fence/fence-server")
	if err != nil {
		t.Fatal(err)
	}
	sides := map[string]string{
		// As sshd with a forced command: the last argument is data to it.
		"ssh": `[ "${@: -2:1}" = fence@storage ] || { echo "no such server" >&2; exit 255; }
SSH_ORIGINAL_COMMAND=${!#} FENCE_STATE=` + dir + `/state exec ` + server + ` cut-off let-in`,
		"cut-off": `[ ! -e ` + dir + `/broken ] && echo "$1" >>` + dir + `/fenced`,
		"let-in":  `[ ! -e ` + dir + `/broken ] && sed -i "/^$1\$/d" ` + dir + `/fenced`,
	}
	fencer := example(t, sides, time.Minute, "fence-ssh", "-i", "/key", "fence@storage")
	expect := func(what string, err error, want bool, fenced string) {
		t.Helper()
		text, _ := os.ReadFile(dir + "/fenced")
		if got := strings.Join(strings.Fields(string(text)), " "); (err == nil) != want || got != fenced {
			t.Errorf("%s: got %v, and %q is fenced; want success %t and %q", what, err, got, want, fenced)
		}
	}
	ctx := t.Context()
	expect("fence", fencer.Fence(ctx, fenceOf("h1", 7, nil)), true, "h1")
	expect("another host", fencer.Fence(ctx, fenceOf("h1.new", 3, nil)), true, "h1 h1.new")
	expect("unfence", fencer.Unfence(ctx, fenceOf("h1.new", 3, nil)), true, "h1")
	expect("unfence again", fencer.Unfence(ctx, fenceOf("h1.new", 3, nil)), true, "h1")
	expect("a late unfence", fencer.Unfence(ctx, fenceOf("h1", 6, nil)), true, "h1")
	expect("fence an earlier stay", fencer.Fence(ctx, fenceOf("h1", 5, nil)), true, "h1 h1")
	expect("a late unfence again", fencer.Unfence(ctx, fenceOf("h1", 6, nil)), true, "h1 h1")
	expect("not a host", fencer.Fence(ctx, fenceOf("h1;true", 8, nil)), false, "h1 h1")
	expect("no incarnation", fencer.Fence(ctx, fenceOf("h1", 0, nil)), false, "h1 h1")
	expect("unfence for good", fencer.Unfence(ctx, fenceOf("h1", 7, nil)), true, "")
	if err := os.WriteFile(dir+"/broken", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a server that can't", fencer.Fence(ctx, fenceOf("h1", 8, nil)), false, "")
	expect("a server that can't undo", fencer.Unfence(ctx, fenceOf("h1", 8, nil)), false, "")
	if err := os.Remove(dir + "/broken"); err != nil {
		t.Fatal(err)
	}
	expect("no server", example(t, sides, time.Minute, "fence-ssh", "fence@nobody").Fence(ctx, fenceOf("h1", 9, nil)), false, "")
	expect("in the end", fencer.Fence(ctx, fenceOf("h1", 8, nil)), true, "h1")
}

// fence-ipmi believes the controller's word that the host is off, and nothing else.
func TestExampleIPMI(t *testing.T) {
	controller := func(off, status string) map[string]string {
		return map[string]string{"ipmitool": `[[ " $* " = *" -H 10.0.0.7 -U admin -f /password "* ]] || { echo "what?"; exit 9; }
case "${*: -3}" in
"chassis power off") ` + off + ` ;;
"chassis power status") ` + status + ` ;;
*) exit 9 ;;
esac`}
	}
	facts := map[string]string{"ipmi": "10.0.0.7"}
	cases := []struct {
		name, off, status string
		want              bool
		fencer            *command.Fencer
	}{
		{name: "off", off: "exit 0", status: "echo Chassis Power is off", want: true},
		{name: "off before", off: "echo not in this state; exit 1", status: "echo Chassis Power is off", want: true},
		{name: "stays on", off: "exit 0", status: "echo Chassis Power is on"},
		{name: "hangs", off: "sleep 1000", status: "echo Chassis Power is off"},
		{name: "silent", off: "echo no session >&2; exit 1", status: "echo no session >&2; exit 1"},
	}
	for i, c := range cases {
		cases[i].fencer = example(t, controller(c.off, c.status), 6*time.Second, "fence-ipmi", "admin", "/password")
	}
	var all sync.WaitGroup // most take a while to say no
	for _, c := range cases {
		all.Go(func() {
			if err := c.fencer.Fence(t.Context(), fenceOf("h1", 7, facts)); (err == nil) != c.want {
				t.Errorf("%s: got %v", c.name, err)
			}
			if err := c.fencer.Unfence(t.Context(), fenceOf("h1", 7, facts)); err != nil {
				t.Errorf("%s: unfence: %v", c.name, err)
			}
			if err := c.fencer.Fence(t.Context(), fenceOf("h1", 7, nil)); err == nil || !strings.Contains(err.Error(), "the host left no address") {
				t.Errorf("%s: without an address: got %v", c.name, err)
			}
		})
	}
	all.Wait()
}
