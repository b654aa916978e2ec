package gluster_test

import (
	"errors"
	"fmt"
	"net"
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

	"github.com/dvol/dvold/internal/host/hosttest"
)

// nodeDir is where a node of testdata/nodes.bash keeps its files.
func nodeDir(node string) string { return filepath.Join(os.Getenv("WORLD"), "nodes", node) }

// nodePID is the first process of a node, or of another host of the world.
func nodePID(t *testing.T, node string) int {
	t.Helper()
	return pidIn(t, node, "pid")
}

// pidIn reads a file of a node that has nothing but the number of a process.
func pidIn(t *testing.T, node, file string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(nodeDir(node), file))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gluster1 runs the gluster command on the first node, and returns its output.
func gluster1(t *testing.T, args ...string) string {
	t.Helper()
	argv := append([]string{"--target", strconv.Itoa(nodePID(t, "g1")), "--mount", "--net", "gluster", "--mode=script"}, args...)
	out, err := exec.Command("nsenter", argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("gluster %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// nodeProcess is the glusterd of a node.
func nodeProcess(t *testing.T, node string) int {
	t.Helper()
	return pidIn(t, node, "run/glusterd.pid")
}

// onNode runs a command on a node, or another host of the world.
func onNode(t *testing.T, name string, argv ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(nodePID(t, name)), "--mount", "--net"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// do runs a command on a node.
func do(t *testing.T, node string, args ...string) {
	t.Helper()
	if out, err := onNode(t, node, args...).CombinedOutput(); err != nil {
		t.Fatalf("on %s: %v: %v: %s", node, args, err, out)
	}
}

// addresses are those of the nodes.
var addresses = map[string]string{"g1": "10.98.0.41", "g2": "10.98.0.42", "g3": "10.98.0.43", "g4": "10.98.0.44"}

// newVolume makes and starts a Gluster volume with options, of a brick on each of
// the nodes, which is gone when the test has ended. The first of them is told to.
func newVolume(t *testing.T, volume string, options []string, nodes ...string) {
	t.Helper()
	command := func(args ...string) {
		t.Helper()
		do(t, nodes[0], append([]string{"gluster", "--mode=script", "volume"}, args...)...)
	}
	create := []string{"create", volume}
	for _, node := range nodes {
		brick := filepath.Join(nodeDir(node), "brick", volume)
		create = append(create, addresses[node]+":"+brick)
		t.Cleanup(func() {
			if err := os.RemoveAll(brick); err != nil { // else it is known for one of the volume that was
				t.Error(err)
			}
		})
	}
	command(append(create, "force")...)
	t.Cleanup(func() { command("delete", volume) })
	if len(options) > 0 {
		command(append([]string{"set", volume}, options...)...)
	}
	command("start", volume)
	t.Cleanup(func() { command("stop", volume, "force") })
}

// management writes a program that runs gluster(8) on a node, and lists what it ran in
// a file beside it, .log.
func management(t *testing.T, node string, arguments ...string) []string {
	t.Helper()
	need(t)
	path := filepath.Join(hosttest.Dir(t), "gluster")
	text := fmt.Sprintf("#!/bin/sh\necho \"$@\" >>\"$0.log\"\nexec nsenter --target %d --mount --net gluster \"$@\"\n", nodePID(t, node))
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return append([]string{path}, arguments...)
}

// brickProcesses are those that serve the bricks of a Gluster volume on a node.
func brickProcesses(t *testing.T, node, volume string) (all []int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(nodeDir(node), "run/gluster/vols", volume, "*.pid"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no brick of %s on %s: %v", volume, node, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	return all
}

// onBricks is what a file contains, on each brick of a Gluster volume.
func onBricks(t *testing.T, volume, file string, nodes ...string) (all []string) {
	t.Helper()
	for _, node := range nodes {
		text, err := os.ReadFile(filepath.Join(nodeDir(node), "brick", volume, file))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

// killGlusterd kills that of a node, whose bricks go on.
func killGlusterd(t *testing.T, node string) {
	t.Helper()
	if err := unix.Kill(nodeProcess(t, node), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { startGlusterd(t, node) })
	for { // the others notice
		if strings.Contains(gluster1(t, "pool", "list"), "Disconnected") {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// startGlusterd starts that of a node, and what bricks it lacks, unless it runs.
func startGlusterd(t *testing.T, node string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(addresses[node], "24007"), time.Second)
	if err == nil {
		conn.Close()
		return
	}
	if out, err := exec.Command("testdata/nodes.bash", "start", node).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for strings.Contains(gluster1(t, "pool", "list"), "Disconnected") {
		time.Sleep(100 * time.Millisecond)
	}
}

// serversLogs are the ends of the logs of glusterd and bricks on all nodes.
func serversLogs(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(nodeDir("g?"), "log", "glusterd.log"))
	bricks, failed := filepath.Glob(filepath.Join(nodeDir("g?"), "log", "bricks", "*gv0.log"))
	if err := errors.Join(err, failed); err != nil {
		t.Error(err)
	}
	var all strings.Builder
	for _, file := range append(files, bricks...) {
		text, err := os.ReadFile(file)
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(line string) bool {
			return strings.Contains(line, "[options.c:") || strings.Contains(line, "glusterd_svc_stop") || strings.Contains(line, "glusterd_proc_stop") || strings.Contains(line, "DL open failed")
		})
		fmt.Fprintf(&all, "%s: %v\n%s\n", file, err, strings.Join(lines[max(0, len(lines)-80):], "\n"))
	}
	return all.String()
}
