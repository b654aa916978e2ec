// Package compose_test brings dvold and Consul up in containers, as
// docker-compose.yml says, and the examples with them.
package compose_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// Both kinds of compose take every file without a warning.
func TestFilesAreClean(t *testing.T) {
	needCompose(t)
	files := []string{"docker-compose.yml"}
	for _, pattern := range []string{"examples/*/stack.yml", "examples/*/host?.yml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: got %v, %v", pattern, found, err)
		}
		for _, file := range found {
			file, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	kinds := [][]string{{"docker-compose"}}
	if exec.Command("docker", "compose", "version").Run() == nil {
		kinds = append(kinds, []string{"docker", "compose"})
	}
	for _, file := range files {
		for _, kind := range kinds {
			check(t, file, append(slices.Clone(kind), "-f", file, "config")...)
		}
		if strings.HasSuffix(file, "stack.yml") && exec.Command("docker", "stack", "config", "--help").Run() == nil {
			check(t, file, "docker", "stack", "config", "-c", file)
		}
	}
}

// check runs a command that checks a file, in the directory of the repository.
func check(t *testing.T, file string, argv ...string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, &out, &errOut
	err := cmd.Run()
	// The newer compose finds that a version, which stack wants, is obsolete.
	said := slices.DeleteFunc(strings.Split(errOut.String(), "\n"), func(line string) bool {
		return line == "" || argv[1] == "compose" && strings.Contains(line, "attribute `version` is obsolete")
	})
	if err != nil || len(said) > 0 || !strings.Contains(out.String(), "services:") {
		t.Errorf("%s: %s: %v\n%s\n%s", file, strings.Join(argv, " "), err, out.String(), strings.Join(said, "\n"))
	}
}

// dvold takes the configurations of the examples.
func TestConfigurationsAreValid(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples/*/dvold.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v", files, err)
	}
	binary, err := dvold()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		check := exec.CommandContext(t.Context(), binary, "config", "check", "--config", file)
		check.Env = []string{} // whoever runs the test may have settings
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
}

// A volume outlives its containers, dvold's, and both together with Consul's.
func TestOneHost(t *testing.T) {
	t.Parallel()
	needCompose(t)
	h := newHost(t, lab.ForTest(t, lab.Options{}), nil)
	file := h.file("docker-compose.yml")
	h.up()
	h.sh("data", "echo kept >/data/file")
	want(t, "file in a second container", h.sh("data", "cat /data/file"), "kept")
	want(t, "driver", h.docker("volume", "inspect", "data", "--format", "{{.Driver}}"), "dvol")
	if keys := h.compose(file, "exec", "-T", "consul", "consul", "kv", "get", "-keys", "-separator=", "dvol/"); !regexp.MustCompile(`(?m)/volumes/.*/data$`).MatchString(keys) {
		t.Errorf("keys in Consul: %s", keys)
	}
	h.wantMounts(0)

	// A container goes on while dvold is replaced.
	h.docker("run", "-d", "--name", "writer", "--stop-signal", "KILL", "--volume-driver", "dvol", "--volume", "data:/data",
		lab.BusyBox, "sh", "-c", "while :; do echo x >>/data/beats || exit 1; sleep 0.02; done")
	h.wantMounts(1)
	h.compose(file, "restart", "dvold")
	h.waitForDvold()
	h.compose(file, "up", "-d", "--force-recreate", "--no-deps", "dvold")
	h.waitForDvold()
	h.wantMounts(1)
	h.wantBeating("writer")
	want(t, "file beside the writer", h.sh("data", "cat /data/file"), "kept")
	h.docker("rm", "-f", "writer")
	h.wantMounts(0)

	h.compose(file, "down")
	want(t, "containers", h.docker("ps", "-aq"), "")
	h.up()
	want(t, "file after down and up", h.sh("data", "cat /data/file"), "kept")
	h.docker("volume", "rm", "data")
	if out := h.dvold("trash", "ls"); !strings.Contains(out, "data") {
		t.Errorf("trash: %s", out)
	}
	h.dvold("trash", "purge", "--all")
	h.compose(file, "down", "-v")
	h.wantMounts(0)
	if left, err := filepath.Glob(filepath.Join(h.StateDir(), "pools/local/*/*")); err != nil || len(left) > 0 {
		t.Errorf("files are left over: %v, %v", left, err)
	}
}

// wantBeating waits until the container has written something more.
func (h *host) wantBeating(container string) {
	h.t.Helper()
	first := h.docker("exec", container, "wc", "-c", "/data/beats")
	h.eventually("writing of "+container, func() bool {
		return h.docker("exec", container, "wc", "-c", "/data/beats") != first
	}, func() any { return first })
}

// The example, on two hosts that follow what docker-compose.yml tells them.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	needCompose(t)
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	configuration, err := os.ReadFile(filepath.Join(root, "examples/two-hosts/dvold.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var hosts []*host
	for i, env := range []map[string]string{
		{"CONSUL_BIND": "10.99.0.11", "CONSUL_JOIN": "10.99.0.11"},
		{"CONSUL_BIND": "10.99.0.12", "CONSUL_JOIN": "10.99.0.11", "CONSUL_SERVER": "false", "CONSUL_EXPECT": "0"},
	} {
		l := c.Host(i + 1)
		h := newHost(t, l, env)
		h.must(h.Configure(string(configuration)))
		h.exec("mount", "-t", "tmpfs", "tmpfs", "/mnt")
		h.exec("mkdir", "/mnt/share")
		h.exec("mount", "--bind", "/shared", "/mnt/share")
		h.up()
		hosts = append(hosts, h)
	}
	for i, h := range hosts {
		name := []string{"host1.yml", "host2.yml"}[i]
		h.copy(filepath.Join(root, "examples/two-hosts", name), h.file(name), 0o644)
		h.exec("docker-compose", "-p", "example", "-f", h.file(name), "up", "-d")
	}
	first, second := hosts[0], hosts[1]
	second.eventually("reader's log", func() bool {
		return strings.Contains(second.docker("logs", "example_reader_1"), "UTC")
	}, func() any { return first.dvold("volume", "inspect", "notes") })
	second.exec("docker-compose", "-p", "example", "-f", second.file("host2.yml"), "down")
	second.wantMounts(0)
	first.exec("docker-compose", "-p", "example", "-f", first.file("host1.yml"), "down", "-v")
	first.wantMounts(0)
	second.dvold("trash", "restore", "notes")
	if out := second.sh("notes", "head -1 /data/notes"); !strings.Contains(out, "UTC") {
		t.Errorf("notes, restored on the other host: %q", out)
	}
}
