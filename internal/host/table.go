package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ownTable is the mount table of the calling thread's namespace.
const ownTable = "/proc/thread-self/mountinfo"

// table is the text of a mount table; see proc(5). A host may have thousands
// of mounts, so only the lines that matter are parsed.
type table []byte

func readTable(path string) (table, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return readTableFrom(fd, path)
}

// readTableFrom reads in large pieces: each read costs the kernel a walk
// through the table.
func readTableFrom(fd int, path string) (table, error) {
	text := make([]byte, 0, 64<<10)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return text, nil
		}
		text = slices.Grow(text[:len(text)+n], 16<<10)
	}
}

// mounts parses the lines that contain word, or all if it is empty.
func (t table) mounts(word string) ([]*mountinfo.Info, error) {
	if word == "" {
		return parse(t)
	}
	var lines []byte
	for rest := []byte(t); len(rest) > 0; {
		at := bytes.Index(rest, []byte(word))
		if at < 0 {
			break
		}
		begin := bytes.LastIndexByte(rest[:at], '\n') + 1
		end := len(rest)
		if n := bytes.IndexByte(rest[at:], '\n'); n >= 0 {
			end = at + n + 1
		}
		lines = append(lines, rest[begin:end]...)
		rest = rest[end:]
	}
	return parse(lines)
}

// parse parses lines of a mount table, with the roots that mounts really have.
func parse(lines []byte) ([]*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMountsFromReader(bytes.NewReader(lines), nil)
	for _, m := range mounts {
		if root, ok := rootOnServer(m); ok {
			m.Root = root
		}
	}
	return mounts, err
}

// rootOnServer returns the root of an NFS mount. The table has "/" there for all
// of them, also for a directory that is bound elsewhere, and says in the source
// which directory it is: see nfs_show_path and nfs_show_devname in Linux.
func rootOnServer(m *mountinfo.Info) (root string, ok bool) {
	if !IsNFS(m) || m.Root != "/" {
		return "", false
	}
	_, path, ok := strings.Cut(m.Source, ":/") // the server may be [fd00::1]
	return "/" + path, ok
}

// IsNFS tells whether a mount is of an NFS server's.
func IsNFS(m *mountinfo.Info) bool { return m.FSType == "nfs" || m.FSType == "nfs4" }

// at returns the mounts at target, the topmost last: the kernel has them in the
// order of their numbers, and one that was moved there may lie on a later one.
func (t table) at(target string) ([]*mountinfo.Info, error) {
	mounts, err := t.mounts(" " + escape(target) + " ")
	if err != nil {
		return nil, err
	}
	var found []*mountinfo.Info
	covered := make(map[int]bool)
	for _, m := range mounts {
		if m.Mountpoint == target {
			found = append(found, m)
			covered[m.Parent] = true
		}
	}
	for i, m := range slices.Backward(found) {
		if !covered[m.ID] {
			return append(slices.Delete(found, i, i+1), m), nil
		}
	}
	return found, nil
}

// showing returns the mounts that show the directory of source or one beneath
// it.
func (t table) showing(source *mountinfo.Info) ([]*mountinfo.Info, error) {
	root := escape(strings.TrimSuffix(source.Root, "/"))
	if IsNFS(source) { // see rootOnServer
		root = "/ "
	}
	mounts, err := t.mounts(fmt.Sprintf(" %d:%d %s", source.Major, source.Minor, root))
	if err != nil {
		return nil, err
	}
	var found []*mountinfo.Info
	for _, m := range mounts {
		if shows(m, source) {
			found = append(found, m)
		}
	}
	return found, nil
}

// escape writes a path as mount tables have it: seq_path(9) with " \t\n\\".
func escape(path string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(path)
}
