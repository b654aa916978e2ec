package command_test

import (
	"os"
	"os/exec"
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
SSH_ORIGINAL_COMMAND=${!#} FENCE_STATE=` + dir + `/state exec ` + server + ` refuse file`,
		"refuse": `[ ! -e ` + dir + `/broken ] && [ "$1" = file ] || exit 1
case $2 in
fence) echo "$3" >>` + dir + `/fenced ;;
unfence) sed -i "/^$3\$/d" ` + dir + `/fenced ;;
esac`,
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

// fence-ganesha says no, before it asks the server, where it can't know who is admitted. What it
// does with a server is tested in backends/nfs.
func TestExampleGanesha(t *testing.T) {
	const good = `EXPORT {
  Export_Id = 7; Path = /srv/volumes; Pseudo = /srv/volumes; Transports = TCP;
  Access_Type = None;
  FSAL { Name = VFS; }
  CLIENT { Clients = 10.0.0.11; Access_Type = RW; Squash = No_Root_Squash; } # h1
  CLIENT { Clients = 10.1.0.11; Access_Type = RW; Squash = No_Root_Squash; } # h1
  CLIENT { Clients = 10.0.0.12; Access_Type = RW; Squash = No_Root_Squash; } # h2
}
`
	program, err := filepath.Abs("../../examples/fence/fence-ganesha")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "volumes.conf")
	run := func(text, action, host string) (after, said string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, file, action, host)
		cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+file) // no server
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s %s: there is no server, and it said yes", action, host)
		}
		changed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(changed), string(out)
	}
	for name, test := range map[string]struct{ old, text, host, says string }{
		"unknown":          {"", "", "h3", "no line of"},
		"shell":            {"", "", "h1;true", "usage"},
		"pattern":          {"", "", ".*", "usage"},
		"list":             {"10.0.0.12", "10.0.0.12, 10.0.0.13", "h1", "a line of its own"},
		"network":          {"10.0.0.12", "10.0.0.0/24", "h1", "a line of its own"},
		"no name":          {" # h2", "", "h1", "a line of its own"},
		"everybody":        {"Access_Type = None", "Access_Type = RW", "h1", "want one EXPORT"},
		"nobody said":      {"Access_Type = None;", "", "h1", "want one EXPORT"},
		"two exports":      {"EXPORT", "EXPORT { Export_Id = 8; }\nEXPORT", "h1", "want one EXPORT"},
		"another FSAL":     {"VFS", "CEPH", "h1", "want one EXPORT"},
		"more transports":  {"Transports = TCP;", "Transports = TCP, UDP;", "h1", "want one EXPORT"},
		"another's suffix": {"# h2", "# xh3", "h3", "no line of"},
	} {
		text := strings.Replace(good, test.old, test.text, 1)
		if after, said := run(text, "fence", test.host); after != text || !strings.Contains(said, test.says) {
			t.Errorf("%s: got %s, want %s; the file:\n%s", name, said, test.says, after)
		}
	}
	fenced, said := run(good, "fence", "h1")
	if n := strings.Count(fenced, "\nCLIENT { Clients = 10.0.0.11; Access_Type = None; } # h1 refused: "); n != 1 || strings.Count(fenced, "Access_Type = None") != 3 || !strings.Contains(said, "does not answer") {
		t.Errorf("fence: said %s\n%s", said, fenced)
	}
	if again, _ := run(fenced, "fence", "h1"); again != fenced {
		t.Errorf("fence again:\n%s", again)
	}
	if other, _ := run(fenced, "unfence", "h2"); other != fenced {
		t.Errorf("unfence of another:\n%s", other)
	}
	if back, _ := run(fenced, "unfence", "h1"); back != good {
		t.Errorf("unfence:\n%s", back)
	}
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
