package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// commands returns all commands of the program.
func commands(t *testing.T) []*cobra.Command {
	t.Helper()
	all := []*cobra.Command{rootCommand(t.Output())}
	for i := 0; i < len(all); i++ {
		all = append(all, all[i].Commands()...)
	}
	return all
}

func TestHelpFitsTerminal(t *testing.T) {
	all := commands(t)
	if len(all) < 20 {
		t.Fatalf("only %d commands", len(all))
	}
	for _, c := range all {
		var out bytes.Buffer
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if err := run(t.Context(), args, &out, t.Output()); err != nil || !strings.Contains(out.String(), "Usage:\n  "+c.CommandPath()) {
			t.Errorf("%v: %v, printed %q", args, err, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 80 || strings.ContainsRune(line, '\t') {
				t.Errorf("%v: a line of %d columns: %s", args, width, line)
			}
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 60 {
			t.Errorf("%s: short help %q, want one line of up to 60 without a full stop", c.CommandPath(), c.Short)
		}
	}
}

func TestExitCodes(t *testing.T) {
	w := newWorld(t)
	for _, wrong := range []string{
		"nonsense", "volume nonsense", "volume ls x", "volume inspect", "volume ls --nonsense", "volume ls --output xml",
		"volume create x -o y", "volume resize x", "volume resize x much", "volume resize x 0 0", "trash purge", "migrate docker-local", "migrate docker-local x --all",
		"migrate docker-local --all --docker-root x", "completion", "completion tcsh", "serve x", "version x", "config check x",
	} {
		err := run(t.Context(), strings.Fields(wrong), t.Output(), t.Output())
		if err == nil || exitCode(err) != 2 || !strings.HasSuffix(oneLine(err), "--help") {
			t.Errorf("dvold %s: %v; want exit code 2 and where help is", wrong, err)
		}
	}
	if _, err := w.dvold("volume", "ls"); err == nil || exitCode(err) != 1 {
		t.Errorf("without a daemon: %v, want exit code 1", err)
	}
	if got := oneLine(errors.Join(errors.New("a"), errors.New("b"))); got != "a; b" {
		t.Errorf("two errors = %q", got)
	}
}

func TestCompletion(t *testing.T) {
	w := newWorld(t)
	t.Setenv("DVOL_ADMIN_SOCKET", w.path("admin.sock"))
	complete := func(args ...string) []string {
		t.Helper()
		var out bytes.Buffer
		if err := run(t.Context(), append([]string{"__complete"}, args...), &out, t.Output()); err != nil {
			t.Errorf("%v: %v", args, err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; last != ":4" { // no file names
			t.Errorf("%v: ends with %q", args, last)
		}
		return lines[:len(lines)-1]
	}
	check := func(want string, args ...string) {
		t.Helper()
		if got := strings.Join(complete(args...), " "); got != want {
			t.Errorf("completion of %q = %q, want %q", args, got, want)
		}
	}
	check("", "volume", "inspect", "") // no daemon: nothing, and no error
	stop := w.serve()
	for _, name := range []string{"alpha", "beta", "gone"} {
		w.want("", "volume", "create", name)
	}
	w.want("", "volume", "rm", "gone")
	check("alpha beta", "volume", "inspect", "")
	check("beta", "volume", "rm", "b")
	check("", "volume", "rm", "alpha", "")
	check("alpha", "volume", "resize", "a")
	check("", "volume", "resize", "alpha", "")
	check("", "volume", "ls", "")
	check("table json", "volume", "ls", "--output", "")
	check("local", "migrate", "docker-local", "--pool", "")
	check("pool=local", "volume", "create", "x", "-o", "p")
	check("bash zsh fish", "completion", "")
	for _, command := range []string{"restore", "purge"} {
		if ids := complete("trash", command, ""); len(ids) != 1 || !strings.HasPrefix(ids[0], "gone.") {
			t.Errorf("trash %s completes %v, want an ID", command, ids)
		}
	}
	for _, name := range []string{"one", "two"} {
		if err := os.MkdirAll(filepath.Join(w.dir, "docker/volumes", name, "_data"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	check("one two", "migrate", "docker-local", "--docker-root", w.path("docker"), "")
	check("two", "migrate", "docker-local", "--docker-root", w.path("docker"), "one", "")
	if _, err := w.dvold("volume", "create", "one"); err != nil {
		t.Error(err)
	}
	var warned bytes.Buffer
	if err := run(t.Context(), []string{"volume", "ls", "--docker-root", w.path("docker"), "--admin-socket", w.path("admin.sock")}, t.Output(), &warned); err != nil || strings.Count(warned.String(), "warning") != 1 || !strings.Contains(warned.String(), `"one"`) {
		t.Errorf("volume ls, where Docker has a local volume of that name: %v, warned %q", err, warned.String())
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"completion", shell}, &out, t.Output()); err != nil || !strings.Contains(out.String(), "__complete") {
			t.Errorf("completion %s: %v, %d bytes", shell, err, out.Len())
		}
	}
}
