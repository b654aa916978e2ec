package cluster_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// drill is the command of hack/drill, from h1 to h2.
type drill struct {
	c      *cluster
	binary string
}

// run runs it, pulls the plug if it asks for that, and checks how it ends and what
// it reports.
func (d drill) run(pull func() error, status int, says []string, args ...string) error {
	all := []string{"--before", "1s", "--after", "1s"}
	for _, h := range d.c.hosts {
		all = append(all, "--host", h.Name()+"=unix://"+h.Path("run/docker.sock"),
			"--log", fmt.Sprintf("%s=tail --lines=0 --quiet --follow=name --retry %s %s", h.Name(), h.Path("dvold.log"), h.Path("guard.log")))
	}
	cmd := exec.CommandContext(d.c.t.Context(), d.binary, append(all, args...)...)
	var report, said bytes.Buffer
	cmd.Stdout = &report
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if pull != nil && strings.Contains(lines.Text(), "pull the plug") {
			err = errors.Join(err, pull())
		}
	}
	var ended *exec.ExitError
	if failed := cmd.Wait(); failed != nil && !errors.As(failed, &ended) {
		err = errors.Join(err, failed)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		err = errors.Join(err, fmt.Errorf("it exited with %d, want %d", got, status))
	}
	for _, want := range says {
		if !strings.Contains(report.String()+said.String(), want) {
			err = errors.Join(err, fmt.Errorf("it does not say %q", want))
		}
	}
	if err != nil {
		return fmt.Errorf("drill %v: %w:\n%s%s", args, err, report.String(), said.String())
	}
	d.c.t.Logf("drill %v:\n%s", args, report.String())
	return nil
}

// What users try on their own hosts with hack/drill, they can believe: it finds
// nothing wrong with a volume that is moved or taken over, and sees it when two hosts
// write at once.
func TestDrill(t *testing.T) {
	c := takeoverCluster(t, 2)
	h1, h2 := c.h(1), c.h(2)
	binary, err := lab.BuildDrill(t.TempDir())
	h1.must(err)
	d := drill{c, binary}
	h1.create("shared")
	h1.createExclusive("fenced", "busy", "mount_wait=1s")
	sound := []string{"VERDICT: SOUND. ", " 0  lost: ", " 0  doubled: ", " 0  interleaved: ", " 0  damaged: "}
	c.atOnce(
		func() error {
			return d.run(nil, 0, append(sound, "until ended ", "until let go ", "until asked ", "until taken ", "until mounted ", "until started ", "until first write "),
				"--volume", "moved", "--remove", "--how", "stop")
		},
		// Nothing is done to the writer on h1, and h2 may write, too.
		func() error {
			return d.run(nil, 1, []string{"comes after the first of h2", "VERDICT: ANOMALY. "}, "--volume", "shared", "--existing", "--how", "command", "--", "true")
		},
		// The same, but h2 may not.
		func() error {
			return d.run(nil, 1, []string{"VERDICT: ANOMALY. The volume did not move: "}, "--volume", "busy", "--existing", "--patience", "5s", "--how", "command", "--", "true")
		},
		func() error { return d.run(nil, 2, []string{`there is a volume "busy"`}, "--volume", "busy") },
		func() error { return d.run(nil, 2, []string{"nowhere"}, "--pool", "nowhere") },
	)
	for _, h := range c.hosts {
		want(t, "containers of "+h.Name(), h.docker("ps", "-aq"), "")
		want(t, "images of "+h.Name(), h.docker("image", "ls", "--format", "{{.Repository}}"), lab.BusyBox)
		want(t, "volumes of "+h.Name(), h.docker("volume", "ls", "-q"), "busy\nshared")
	}

	picture := filepath.Join(t.TempDir(), "drill.svg")
	h2.must(d.run(h1.Kill, 0, append(sound, "until asked ", "until noticed ", "until fenced ", "until taken ", "until mounted ", "until started ", "until first write ",
		"volume was taken over from a host that is silent", "on h1: docker rm --force dvol-drill-"), "--how", "wait", "--svg", picture))
	if svg, err := os.ReadFile(picture); err != nil || !bytes.Contains(svg, []byte("nobody writes: ")) {
		t.Errorf("the picture: %s (%v)", svg, err)
	}
	c.must(h1.back(c))
}
