// Package config reads dvold's configuration.
//
// Every setting is a key in the file, an environment variable and a flag, all
// named after the key: log.level is DVOL_LOG_LEVEL and --log-level. A flag wins
// over the environment, that over the file, and that over the default. Pools
// are described in the file alone.
//
// Nothing unknown is passed over: a key, a DVOL_ variable or a value that
// means nothing is an error of one line that says where it stands and what
// would be valid. A key without a value is as if it weren't there; so is an
// empty variable. An item of a list has to have a value.
package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// DefaultFile is read if no other file is named. It need not exist.
const DefaultFile = "/etc/dvol/dvold.yaml"

// Config is what dvold is told.
type Config struct {
	Host         string          `yaml:"host"`          // this host's name in the cluster
	StateDir     string          `yaml:"state_dir"`     // absolute path
	RunDir       string          `yaml:"run_dir"`       // absolute path
	DockerSocket string          `yaml:"docker_socket"` // absolute path
	AdminSocket  string          `yaml:"admin_socket"`  // absolute path
	Log          Log             `yaml:"log"`
	Coordination Coordination    `yaml:"coordination"`
	Guard        Guard           `yaml:"guard"`
	DefaultPool  string          `yaml:"default_pool"` // always one of Pools
	TrashTTL     Duration        `yaml:"trash_ttl"`    // 0 means that removed data is purged at once
	Pools        map[string]Pool `yaml:"pools"`        // at least one

	// File is what was read, or empty if there is no file.
	File string `yaml:"-"`
}

// Log says what dvold writes to its log.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// Flags declares --config and a flag for each setting.
func Flags(fs *pflag.FlagSet) {
	fs.String("config", "", "configuration `file` (default "+DefaultFile+")")
	for _, s := range settings() {
		usage := s.usage
		if s.value != "" {
			usage += " (default " + s.value + ")"
		}
		fs.String(s.flag(), "", usage)
	}
}

// Load reads the flags in fs, which must be parsed, the environment and the
// file, and checks all of it.
func Load(fs *pflag.FlagSet) (Config, error) {
	c, err := load(fs)
	if err != nil {
		return Config{}, errors.New(printable(err.Error())) // it quotes the file
	}
	return c, nil
}

// printable writes control characters as Go does.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func load(fs *pflag.FlagSet) (Config, error) {
	src, err := newSources(fs)
	if err != nil {
		return Config{}, err
	}
	c := Config{File: src.file}
	for _, s := range settings() {
		value, err := src.value(s)
		if err != nil {
			return Config{}, err
		}
		if err := s.set(&c, value); err != nil {
			return Config{}, fmt.Errorf("%s: %w", src.origin(s), err)
		}
	}
	if c.AdminSocket == c.DockerSocket {
		return Config{}, fmt.Errorf("admin_socket and docker_socket are both %s", c.DockerSocket)
	}
	if err := c.checkCoordination(src); err != nil {
		return Config{}, err
	}
	if c.Pools, err = poolsIn(src.file, src.root); err != nil {
		return Config{}, err
	}
	if len(c.Pools) == 0 {
		c.Pools = map[string]Pool{"local": defaultPool(c.StateDir)}
	}
	if err := c.settleDefaultPool(src.origin(setting{key: "default_pool"})); err != nil {
		return Config{}, err
	}
	return c, nil
}

// settleDefaultPool makes sure that there is one. Origin is where it was set.
func (c *Config) settleDefaultPool(origin string) error {
	names := slices.Sorted(maps.Keys(c.Pools))
	if c.DefaultPool == "" && len(names) == 1 {
		c.DefaultPool = names[0]
	}
	if c.DefaultPool == "" {
		return fmt.Errorf("default_pool is not set, and there are several pools: set it to one of %s", strings.Join(names, ", "))
	}
	if _, ok := c.Pools[c.DefaultPool]; !ok {
		return fmt.Errorf("%s: there is no pool %q (there are: %s)", origin, c.DefaultPool, strings.Join(names, ", "))
	}
	return nil
}

// defaultPool makes volumes in a directory of dvold's own.
func defaultPool(stateDir string) Pool {
	text := func(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }
	return Pool{
		Type:      "local",
		Exclusive: defaultExclusive(),
		Source:    "the default pool",
		path:      "pools.local",
		node: &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{
			text("path"), text(filepath.Join(stateDir, "pools", "local")),
		}},
	}
}

// matches returns whether all of s is what pattern describes.
func matches(pattern, s string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(s)
}
