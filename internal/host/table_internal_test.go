package host

import "testing"

// Lines of Linux 6.1, cut short: NFS mounts have "/" for a root, whatever they
// show.
const nfsTable = `28 21 0:25 / /run/dvol/nfs/p/shared.1 rw,nosuid,nodev - nfs4 10.0.0.1:/srv/pool rw,vers=4.2
26 21 0:25 / /mnt/a\040b rw,nosuid,nodev - nfs4 10.0.0.1:/srv/pool/volumes/a\040b rw,vers=4.2
27 21 0:25 / /mnt/c rw,nosuid,nodev - nfs4 10.0.0.1:/srv/pool/volumes/a\040bc rw,vers=4.2
30 21 0:27 / /mnt/d rw - nfs [fd00::1]:/ rw,vers=3
31 21 0:28 / /mnt/e rw - tmpfs nas:/srv rw
32 21 8:1 /srv/pool /mnt/f rw - ext4 /dev/sda1 rw
`

func TestRootsOfNFS(t *testing.T) {
	mounts, err := table(nfsTable).mounts("")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"/run/dvol/nfs/p/shared.1": "/srv/pool", "/mnt/a b": "/srv/pool/volumes/a b", "/mnt/c": "/srv/pool/volumes/a bc",
		"/mnt/d": "/", "/mnt/e": "/", "/mnt/f": "/srv/pool",
	}
	if len(mounts) != len(want) {
		t.Errorf("got %d mounts, want %d", len(mounts), len(want))
	}
	for _, m := range mounts {
		if m.Root != want[m.Mountpoint] {
			t.Errorf("%s: got root %s, want %s", m.Mountpoint, m.Root, want[m.Mountpoint])
		}
	}
	for mountpoint, count := range map[string]int{"/run/dvol/nfs/p/shared.1": 3, "/mnt/a b": 1, "/mnt/f": 1} {
		at, err := table(nfsTable).at(mountpoint)
		if err != nil || len(at) != 1 {
			t.Fatalf("at %s: got %v, %v", mountpoint, at, err)
		}
		if found, err := table(nfsTable).showing(at[0]); err != nil || len(found) != count {
			t.Errorf("what %s shows: got %d mounts, %v, want %d", mountpoint, len(found), err, count)
		}
	}
}

// Lines of Linux 6.18, cut short: B was mounted elsewhere, before A, and moved onto that.
const movedTable = `221 222 0:45 / /mnt/x rw - tmpfs B rw
222 197 0:54 / /mnt/x rw - tmpfs A rw
197 1 8:1 / / rw - ext4 /dev/sda1 rw
`

func TestTopmostIsLast(t *testing.T) {
	at, err := table(movedTable).at("/mnt/x")
	if err != nil || len(at) != 2 || at[1].Source != "B" {
		t.Errorf("got %v, %v, want B last", at, err)
	}
	if at, err := table(movedTable).at("/"); err != nil || len(at) != 1 {
		t.Errorf("got %v, %v, want one", at, err)
	}
	if at, err := table(movedTable).at("/mnt"); err != nil || len(at) != 0 {
		t.Errorf("got %v, %v, want none", at, err)
	}
}
