package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

const diskSize = 32 << 20

func TestDiskOfOneHost(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	h1, h2 := c.Host(1), c.Host(2)
	d := attach(t, newDisk(t, h1.Path("disk")), h1)
	check(t, d.Mount("/srv/disk"))
	run(t, h1, "sh", "-c", "echo hello >/srv/disk/x")
	if run(t, h1, "stat", "-c", "%d", "/srv/disk") == run(t, h1, "stat", "-c", "%d", "/") {
		t.Error("it is not a file system of its own")
	}
	if out, err := h2.Exec(t.Context(), "cat", "/srv/disk/x"); err == nil {
		t.Errorf("h2 sees %q", out)
	}
	for file := range strings.FieldsSeq(backingFiles(t)) {
		if strings.HasPrefix(file, h2.Path("")) {
			t.Errorf("h2 has the device of %s", file)
		}
	}
	check(t, d.Unmount("/srv/disk"))
	if err := d.Unmount("/srv/disk"); err == nil {
		t.Error("unmounted twice")
	}
	check(t, d.Mount("/srv/disk"))
	if out := run(t, h1, "cat", "/srv/disk/x"); out != "hello" {
		t.Errorf("mounted again it has %q", out)
	}
	check(t, d.Unmount("/srv/disk"))
	check(t, d.Detach())
	check(t, d.Detach())
	if strings.Contains(backingFiles(t), h1.Path("")) {
		t.Error("the device is there after it was detached")
	}
}

// What h1 has synced, or unmounted, h2 sees; one of them hurts the other's
// device in no way.
func TestDiskOfTwoHosts(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	h1, h2 := c.Host(1), c.Host(2)
	disk := newDisk(t, c.Path("lun"))
	d1, d2 := attach(t, disk, h1), attach(t, disk, h2)
	if d1.Path() == d2.Path() {
		t.Fatalf("both have %s", d1.Path())
	}
	check(t, d1.Mount("/lun"))
	run(t, h1, "sh", "-c", "echo one >/lun/one")
	check(t, d1.Unmount("/lun"))
	check(t, d2.Mount("/lun"))
	run(t, h2, "sh", "-c", "cat /lun/one >/lun/two; echo two >>/lun/two")
	check(t, h2.Kill())
	d1 = renew(t, disk, h1, d1)
	check(t, d1.Mount("/lun"))
	if out, want := run(t, h1, "cat", "/lun/two"), "one\ntwo"; out != want {
		t.Errorf("h1 reads %q, want %q", out, want)
	}
	if n := strings.Count(backingFiles(t), c.Path("lun")); n != 1 {
		t.Errorf("%d devices show the disk, want h1's", n)
	}
	check(t, h2.Boot(t.Context()))
	check(t, d1.Unmount("/lun"))
	check(t, attach(t, disk, h2).Mount("/lun"))
	run(t, h2, "cat", "/lun/two")
	check(t, c.Close())
	if strings.Contains(backingFiles(t), c.Path("lun")) {
		t.Error("a device is left over")
	}
}

func newDisk(t *testing.T, file string) *lab.Disk {
	t.Helper()
	disk, err := lab.NewDisk(t.Context(), file, diskSize)
	check(t, err)
	return disk
}

func attach(t *testing.T, disk *lab.Disk, h *lab.Host) *lab.Device {
	t.Helper()
	d, err := disk.Attach(h)
	check(t, err)
	return d
}

// renew gives a host another device, whose blocks nobody has read yet.
func renew(t *testing.T, disk *lab.Disk, h *lab.Host, d *lab.Device) *lab.Device {
	t.Helper()
	check(t, d.Detach())
	return attach(t, disk, h)
}

// backingFiles lists what loop devices show.
func backingFiles(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	check(t, err)
	var all strings.Builder
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may go away
		all.Write(text)
	}
	return all.String()
}
