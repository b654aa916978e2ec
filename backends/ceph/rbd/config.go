// Package rbd keeps volumes as images of a Ceph cluster, each with a file system of its
// own.
//
// An image has one writer at a time: a volume is exclusive, or readonly. Where it is
// wanted, the image is mapped to a block device, by the kernel or by rbd-fuse and a
// loop device, and the directory of its file system that is the volume is bound out of
// that. Each mapping is a client of the cluster by itself, which can be fenced and
// hits nothing else.
//
// What dvold must know of an image, and of the volumes of the pool, lies in the pool
// too, in objects of its own; on the host nothing is written down: what runs and is
// mounted says it all.
package rbd

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// Config describes a pool.
type Config struct {
	Cluster ceph.Config `yaml:"cluster"`
	// Pool is the pool of the cluster, and Namespace the part of it, in which images
	// are. DataPool is where their data is, such as an erasure-coded pool; empty
	// means Pool.
	Pool      string `yaml:"pool"`
	Namespace string `yaml:"namespace"`
	DataPool  string `yaml:"data_pool"`
	// ObjectSize is that of the objects that an image consists of; empty means what
	// the cluster says.
	ObjectSize Size `yaml:"object_size"`

	// Size is that of a volume which asks for none; 0 means that it must.
	Size Size `yaml:"size"`
	// FileSystem is ext4 or xfs, for volumes that ask for none.
	FileSystem string `yaml:"filesystem"`

	// Mapper is krbd, fuse, or empty: krbd where this kernel has it, and Cluster names monitors.
	Mapper string `yaml:"mapper"`
	// MountTimeout is how long it may take until an image is mapped. A client that was
	// killed counts as one for half a minute.
	MountTimeout time.Duration `yaml:"mount_timeout"`

	// Fencer is a user that may take clients off the cluster's blocklist as well as put
	// them there; empty means the pool's user, who may only put them there.
	Fencer        string `yaml:"fencer"`
	FencerKeyring string `yaml:"fencer_keyring"`
}

// DefaultConfig returns what holds where a configuration says nothing else.
func DefaultConfig() Config {
	return Config{Cluster: ceph.DefaultConfig(), Pool: "rbd", FileSystem: "ext4", MountTimeout: 45 * time.Second}
}

// Size is a number of bytes, written as backends.ParseSize reads it.
type Size int64

// UnmarshalText reads what a configuration has.
func (s *Size) UnmarshalText(text []byte) error {
	if string(text) == "0" { // none
		*s = 0
		return nil
	}
	n, err := backends.ParseSize(string(text))
	if err != nil {
		return fmt.Errorf("size %q: %w", text, err)
	}
	*s = Size(n)
	return nil
}

// What sizes may be.
const (
	maxSize       = 1 << 60
	minObjectSize = 4 << 10
	maxObjectSize = 32 << 20
	minMount      = time.Second
	maxMount      = 80 * time.Second // Docker waits two minutes
)

var (
	// A name of a pool or namespace is a word of a line that the kernel reads.
	poolPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

	fileSystems = map[string]struct{ min int64 }{
		"ext4": {8 << 20},
		"xfs":  {300 << 20}, // mkfs.xfs(8) makes none below
	}
	mappers = []string{"", "fuse", "krbd"}
)

// Validate returns an error that names the key at fault.
func (c Config) Validate() error {
	if err := c.Cluster.Validate(); err != nil {
		return fmt.Errorf("cluster.%w", err)
	}
	for key, name := range map[string]string{"pool": c.Pool, "namespace": c.Namespace, "data_pool": c.DataPool} {
		if (name != "" || key == "pool") && !poolPattern.MatchString(name) {
			return fmt.Errorf("%s: %q is no name of letters, digits, dots, dashes and underscores", key, name)
		}
	}
	if n := int64(c.ObjectSize); n != 0 && (n&(n-1) != 0 || n < minObjectSize || n > maxObjectSize) {
		return fmt.Errorf("object_size: %d is not a power of two from 4K to 32M", n)
	}
	if _, ok := fileSystems[c.FileSystem]; !ok {
		return fmt.Errorf("filesystem: %q is not one of: ext4, xfs", c.FileSystem)
	}
	if c.Size != 0 {
		if err := checkSize(int64(c.Size), c.FileSystem); err != nil {
			return err
		}
	}
	if !slices.Contains(mappers, c.Mapper) {
		return fmt.Errorf("mapper: %q is not one of: fuse, krbd", c.Mapper)
	}
	if c.Mapper == "krbd" && len(c.Cluster.Monitors) == 0 {
		return fmt.Errorf("mapper: krbd wants cluster.monitors, not cluster.conf")
	}
	if c.MountTimeout < minMount || c.MountTimeout > maxMount {
		return fmt.Errorf("mount_timeout: %v is not between %v and %v", c.MountTimeout, minMount, maxMount)
	}
	if c.Fencer == "" && c.FencerKeyring != "" {
		return fmt.Errorf("fencer_keyring: want the user, fencer, too")
	}
	if c.Fencer != "" {
		if err := c.fencer().Validate(); err != nil {
			return fmt.Errorf("fencer: %w", err)
		}
	}
	return nil
}

// fencer is how the cluster is used to fence.
func (c Config) fencer() ceph.Config {
	f := c.Cluster
	if c.Fencer != "" {
		f.User, f.Keyring = c.Fencer, c.FencerKeyring
	}
	return f
}

// checkSize returns an error unless a file system can have that size.
func checkSize(size int64, kind string) error {
	switch least := fileSystems[kind].min; {
	case size < least:
		return fmt.Errorf("size: %d is less than %dM, the least for %s", size, least>>20, kind)
	case size > maxSize:
		return fmt.Errorf("size: %d is too much", size)
	}
	return nil
}

// Location tells people where the pool lies.
func (c Config) Location() string { return c.Cluster.Hosts() + ":" + c.within("") }

// within is the name of an image as rbd(8) has it: POOL/NAMESPACE/IMAGE.
func (c Config) within(image string) string {
	parts := []string{c.Pool, c.Namespace, image}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
}
