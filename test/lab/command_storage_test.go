package lab_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/test/lab"
)

func TestCommandWithStorage(t *testing.T) {
	t.Parallel()
	c := newCommand(t)
	c.run("up", "--hosts", "2", "--servers", "0", "--storage")
	groups := c.groups()
	c.run("exec", "h1", "sh", "-c", "echo hello >/dfs/x")
	if out := c.run("exec", "h2", "cat", "/dfs/x"); out != "hello\n" {
		t.Errorf("h2 reads %q", out)
	}
	c.run("exec", "h2", "env", "DVOL_ACTION=fence", "DVOL_HOST=h1", "/etc/lab/fence")
	if out, err := c.try("exec", "h1", "cat", "/dfs/x"); err == nil {
		t.Errorf("h1, which is fenced, reads %q", out)
	}
	c.run("reboot", "h1")
	c.run("exec", "h2", "env", "DVOL_ACTION=unfence", "DVOL_HOST=h1", "/etc/lab/fence")
	c.run("reboot", "h1")
	c.run("exec", "h1", "cat", "/dfs/x")
	c.run("reboot", "f1")
	c.run("remount", "h1")
	c.run("exec", "h1", "cat", "/dfs/x")
	if out, err := c.try("remount", "f1"); err == nil {
		t.Errorf("remount of the server: %s", out)
	}
	c.run("freeze", "h1", "all")
	c.run("thaw", "h1", "all")

	frozen := func() []string { return c.status().Machines[0].Frozen }
	c.run("freeze", "h1", "dockerd")
	if got, want := frozen(), []string{"dockerd"}; !slices.Equal(got, want) {
		t.Errorf("frozen on h1: %q, want %q", got, want)
	}
	if out := c.run("status"); !strings.Contains(out, "(frozen: dockerd)") {
		t.Errorf("status: %s", out)
	}
	c.run("thaw", "h1", "dockerd")
	c.run("exec", "h1", "docker", "ps")
	if got := frozen(); len(got) > 0 {
		t.Errorf("frozen on h1: %q", got)
	}
	c.wantRefused([][]string{{"freeze", "h1", "consul"}, {"freeze", "h1", "dvold"}, {"thaw", "h1", "everything"}, {"freeze", "h9", "dockerd"}})
	c.run("down")
	c.wantGone(groups)
}

func TestCommandWithGluster(t *testing.T) {
	t.Parallel()
	c := newCommand(t)
	c.run("up", "--hosts", "2", "--servers", "1", "--consul", consultest.Binary(t), "--gluster", "--dvold", buildDvold(t))
	groups := c.groups()
	c.run("exec", "h1", "docker", "volume", "create", "-d", "dvol", "-o", "pool=gluster", "data")
	sh := func(host, script string) string {
		t.Helper()
		return c.run("exec", host, "docker", "run", "--rm", "--network", "host", "-v", "data:/data", lab.BusyBox, "sh", "-c", script)
	}
	sh("h1", "echo hello >/data/file")
	if out := sh("h2", "cat /data/file"); out != "hello\n" {
		t.Errorf("h2 reads %q", out)
	}
	c.wantDaemons("g3", "glusterd", "sshd", "brick")
	for _, step := range []struct {
		order []string
		want  []string
	}{
		{[]string{"gluster", "kill", "g3"}, []string{"sshd"}},
		{[]string{"gluster", "kill", "g3"}, []string{"sshd"}},
		{[]string{"gluster", "start", "g3"}, []string{"glusterd", "sshd", "brick"}},
		{[]string{"gluster", "start", "g3"}, []string{"glusterd", "sshd", "brick"}},
		{[]string{"freeze", "g3", "glusterd"}, []string{"glusterd", "sshd", "brick"}},
		{[]string{"gluster", "kill", "g3"}, []string{"sshd"}},
		{[]string{"kill", "g3"}, nil},
		{[]string{"reboot", "g3"}, []string{"glusterd", "sshd", "brick"}},
	} {
		c.run(step.order...)
		c.wantDaemons("g3", step.want...)
		sh("h1", "echo "+strings.Join(step.order, "-")+" >>/data/file")
	}
	c.wantRefused([][]string{{"gluster", "kill", "h1"}, {"gluster", "start", "g4"}, {"gluster", "stop", "g1"}, {"gluster", "kill"}})
	c.run("exec", "h1", "docker", "run", "-d", "--network", "host", "-v", "data:/data", lab.BusyBox, "sleep", "1000") // with a client
	c.run("down")
	c.wantGone(groups)
}

func TestCommandWithCeph(t *testing.T) { // not parallel, as the other tests with Ceph
	c := newCommand(t)
	dvold, err := lab.BuildDvoldWithCeph(t.TempDir())
	check(t, err)
	c.run("up", "--hosts", "1", "--servers", "1", "--consul", consultest.Binary(t), "--ceph", "--dvold", dvold)
	groups := c.groups()
	c.run("exec", "h1", "rbd", "--id", lab.CephUser, "create", "--size", "16M", "image")
	all := []string{"mon", "osd", "mds"}
	c.wantDaemons("c2", append(all, "mgr")...)
	c.wantDaemons("c3", all...)
	for _, step := range []struct {
		order []string
		want  []string
	}{
		{[]string{"ceph", "kill", "c3"}, nil},
		{[]string{"ceph", "kill", "c3"}, nil},
		{[]string{"ceph", "start", "c3"}, all},
		{[]string{"freeze", "c3", "osd"}, all},
		{[]string{"ceph", "kill", "c3"}, nil},
		{[]string{"kill", "c3"}, nil},
		{[]string{"reboot", "c3"}, all},
	} {
		c.run(step.order...)
		c.wantDaemons("c3", step.want...)
		if out := c.run("exec", "h1", "rbd", "--id", lab.CephUser, "ls"); out != "image\n" {
			t.Errorf("%q: h1 sees images %q", step.order, out)
		}
	}
	c.wantRefused([][]string{{"ceph", "kill", "h1"}, {"ceph", "start", "c4"}, {"ceph", "stop", "c1"}, {"ceph", "kill"}})
	// A machine takes along the loop device of its image, however it ends.
	c.run("exec", "h1", "rbd", "--id", lab.CephUser, "rm", "--no-progress", "image")
	c.run("exec", "h1", "docker", "volume", "create", "-d", "dvol", "-o", "pool=images", "-o", "access=exclusive", "db")
	image := strings.TrimSpace(c.run("exec", "h1", "rbd", "--id", lab.CephUser, "ls"))
	for _, end := range [][]string{{"exec", "h1", lab.RebootCommand}, {"kill", "h1"}, {"down"}} {
		c.run("reboot", "h1")
		if n := loopDevices(t, image); n != 0 {
			t.Errorf("before %q: %d loop devices show %s", end, n, image)
		}
		c.run("exec", "h1", "docker", "run", "-d", "--network", "host", "-v", "db:/data", lab.BusyBox, "sh", "-c", "while echo; do sleep 0.1; done >/data/file")
		if n := loopDevices(t, image); n != 1 {
			t.Errorf("before %q: %d loop devices show %s, want one", end, n, image)
		}
		c.try(end...) // a command in a machine that ends fails
	}
	if n := loopDevices(t, image); n != 0 {
		t.Errorf("%d loop devices show %s", n, image)
	}
	c.wantGone(groups)
}

// loopDevices counts those whose file is called so.
func loopDevices(t *testing.T, name string) (n int) {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	check(t, err)
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && filepath.Base(strings.TrimSpace(string(text))) == name {
			n++
		}
	}
	return n
}
