package cut

import (
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/dvol/dvold/internal/host"
)

// Volume is what this host must stop writing to.
//
// A volume is found by its mountpoint and, in the tables and processes of other
// mount namespaces, by its file system and directory. Device, Root, Type,
// Source and Behind say which; see [Volume.Identified]. The kernel gives the number of a
// file system that is gone to the next one: a Volume that was cut, and is to be
// cut again should it be mounted again, is better passed without them.
type Volume struct {
	ID         string `json:"id"`               // unique: it tells apart cuts, and rules of the packet filter
	Mountpoint string `json:"mountpoint"`       // where dvold mounts it, in this mount namespace
	Device     string `json:"device,omitempty"` // "major:minor" of the file system mounted there, "" if not known yet
	Root       string `json:"root,omitempty"`   // which directory of it, as in the mount table
	Type       string `json:"type,omitempty"`   // of the file system, as in the mount table; "" is any
	Source     string `json:"source,omitempty"` // of the file system, as in the mount table; "" is any
	Sole       bool   `json:"sole,omitempty"`   // the file system is mounted for this volume alone

	// Behind is what serves a file system that is Sole and on a loop device; nil if
	// nothing does, or that is not known.
	Behind *Behind `json:"behind,omitempty"`

	// Servers are those of the storage. All traffic between them and this
	// network namespace is blocked before anything is killed, until the cut is
	// verified. It is meant for file systems that are Sole: what was not
	// written yet to another can't be written then, and such a cut fails.
	Servers []netip.Prefix `json:"servers,omitempty"`
}

// Identified returns v with what is mounted at its mountpoint. If nothing is
// mounted there the error is [fs.ErrNotExist].
func (v Volume) Identified() (Volume, error) {
	m, err := host.MountedAt(v.Mountpoint)
	if err == nil && m == nil {
		err = fmt.Errorf("not a mountpoint: %w", fs.ErrNotExist)
	}
	if err != nil {
		return v, fmt.Errorf("identify what is mounted at %s: %w", v.Mountpoint, err)
	}
	v.Device = fmt.Sprintf("%d:%d", m.Major, m.Minor)
	v.Root, v.Type, v.Source, v.Behind = m.Root, m.FSType, m.Source, nil
	if v.Sole {
		if v.Behind, err = behind(m.Major, m.Minor); err != nil {
			return v, fmt.Errorf("identify what is behind what is mounted at %s: %w", v.Mountpoint, err)
		}
	}
	return v, nil
}
