package nfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// floating is an address that one of two servers has.
const floating = "10.97.9.9"

// Two servers have one directory, and one address, which moves.
func testMoved(t *testing.T, s server) {
	dir := filepath.Join(s.exported, newPool(t, s.exported, "").Subdir)
	var servers [3]*ganesha
	for n := 1; n <= 2; n++ {
		machine := newMachine(t, n)
		servers[n] = newGanesha(t, hosttest.Dir(t), machineAddress(n), []string{"nsenter", "--net=/run/netns/" + machine}, export{path: dir})
	}
	assign := func(n int) {
		run(t, "ip", "-n", machineName(n), "address", "add", floating+"/32", "dev", "lo")
		run(t, "ip", "route", "replace", floating, "via", machineAddress(n))
	}
	assign(1)
	c := nfs.DefaultConfig()
	c.Server, c.Export = floating, dir
	p := openPool(t, hosttest.Dir(t), c)
	v := create(t, p, backends.Request{})
	var writers []*writer
	for _, name := range []string{"shared", "exclusive"} {
		target := mount(t, p, v.Handle, backends.MountOptions{Alone: name == "exclusive"})
		writers = append(writers, startWriter(t, filepath.Join(target, name), filepath.Join(dir, v.Handle, name)))
	}
	awaitLines(t, writers, 5)
	run(t, "ip", "-n", machineName(1), "address", "delete", floating+"/32", "dev", "lo")
	assign(2)
	awaitLines(t, writers, 5)
	if _, err := p.Stat(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}
	for _, w := range writers {
		w.check(t)
	}

	t.Run("the name's other address", func(t *testing.T) {
		nameServer(t, machineAddress(1))
		c := c
		c.Server, c.MountGrace = "nas", time.Hour
		p := openPool(t, hosttest.Dir(t), c)
		if _, err := p.Stat(t.Context(), v.Handle); err != nil { // by the first
			t.Fatal(err)
		}
		nameServer(t, machineAddress(1), machineAddress(2)) // for 5 s package net believes what it has read
		servers[1].kill(t)                                  // a word of it is not waited for then
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if _, err := p.Stat(t.Context(), v.Handle); err == nil {
				break
			} else if time.Now().After(end) {
				t.Fatalf("the other is not asked: %v", err)
			}
		}
		target := mount(t, p, v.Handle, backends.MountOptions{})
		if _, options := mountAt(t, target); !slices.Contains(strings.Split(options, ","), "addr="+machineAddress(2)) {
			t.Errorf("mounted with %s", options)
		}
	})
}

func machineName(n int) string    { return fmt.Sprint("nas", n) }
func machineAddress(n int) string { return fmt.Sprintf("10.97.%d.2", n) }

// newMachine makes a network namespace, at the other end of a cable, that goes with the
// test.
func newMachine(t *testing.T, n int) (name string) {
	t.Helper()
	name = machineName(n)
	here := fmt.Sprintf("10.97.%d.1", n)
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "delete", name) })
	// Batches, because a guest takes long to start a program.
	runWith(t, fmt.Sprintf("link add %[1]s type veth peer name eth0 netns %[1]s\naddress add %[2]s/24 dev %[1]s\nlink set %[1]s up\n", name, here), "ip", "-batch", "-")
	runWith(t, fmt.Sprintf("address add %s/24 dev eth0\nlink set eth0 up\nlink set lo up\nroute add default via %s\n", machineAddress(n), here), "ip", "-n", name, "-batch", "-")
	return name
}

// nameServer has the name nas stand for addresses until the test has ended.
func nameServer(t *testing.T, addresses ...string) {
	t.Helper()
	text := ""
	for _, a := range addresses {
		text += a + " nas\n"
	}
	hosts := filepath.Join(hosttest.Dir(t), "hosts")
	if err := os.WriteFile(hosts, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc/hosts", 0); err != nil {
			t.Error(err)
		}
	})
}
