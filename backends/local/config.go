package local

import (
	"fmt"
	"path/filepath"
)

// Config describes a pool.
type Config struct {
	// Path is the directory that volumes are kept in.
	Path string `yaml:"path"`
	// RequireMount says that Path is where a file system gets mounted. While
	// it is not, the pool is unavailable; without this volumes would then be
	// made in whatever lies beneath, and be missing there, removed ones too.
	RequireMount bool `yaml:"require_mount"`
	// Shared says that Path is one file system that every host of the cluster
	// has mounted. Nothing here depends on it.
	Shared bool `yaml:"shared"`
}

// DefaultConfig returns what holds where a configuration says nothing else.
func DefaultConfig() Config {
	return Config{Path: "/var/lib/dvol/pools/local"}
}

// Validate returns an error that names the key at fault.
func (c Config) Validate() error {
	if !filepath.IsAbs(c.Path) || filepath.Clean(c.Path) == "/" {
		return fmt.Errorf("path: %q is not an absolute path below /", c.Path)
	}
	return nil
}
