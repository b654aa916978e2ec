package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

const envPrefix = "DVOL_"

// sources are the places a setting may come from. Viper settles which one
// wins. The file is not decoded by viper, which lower-cases keys, splits them
// at dots and knows no lines; it is given the file's settings as texts.
type sources struct {
	viper *viper.Viper
	flags *pflag.FlagSet
	file  string     // empty if there is none
	root  *yaml.Node // of the file; nil if there is nothing in it
	lines map[string]*yaml.Node
}

func newSources(flags *pflag.FlagSet) (*sources, error) {
	if err := checkEnvironment(os.Environ()); err != nil {
		return nil, err
	}
	src := &sources{viper: viper.New(), flags: flags}
	if err := src.bind("config", "config", envPrefix+"CONFIG"); err != nil {
		return nil, err
	}
	for _, s := range settings() {
		src.viper.SetDefault(s.key, s.value)
		if err := src.bind(s.key, s.flag(), s.env()); err != nil {
			return nil, err
		}
	}
	if err := src.read(); err != nil {
		return nil, err
	}
	return src, nil
}

// bind ties a key to its flag, if the command has it, and its variable.
func (src *sources) bind(key, flag, env string) error {
	if f := src.flags.Lookup(flag); f != nil {
		if err := src.viper.BindPFlag(key, f); err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
	}
	if err := src.viper.BindEnv(key, env); err != nil {
		return fmt.Errorf("%s: %w", env, err)
	}
	return nil
}

// read reads the file, if there is one, and hands its settings to viper.
func (src *sources) read() error {
	named := src.viper.GetString("config")
	path := named
	if path == "" {
		path = DefaultFile
	}
	content, err := os.ReadFile(path)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	src.file = path
	if src.root, err = parse(path, content); err != nil {
		return err
	}
	if src.lines, err = settingsIn(path, src.root); err != nil {
		return err
	}
	for key, node := range src.lines {
		var value any = node.Value
		if section, name, ok := strings.Cut(key, "."); ok {
			key, value = section, map[string]any{name: node.Value}
		}
		if err := src.viper.MergeConfigMap(map[string]any{key: value}); err != nil {
			return fmt.Errorf("%s:%d: %w", path, node.Line, err)
		}
	}
	return nil
}

// value returns what holds for s.
func (src *sources) value(s setting) (string, error) {
	value := src.viper.GetString(s.key)
	if s.key == "host" && value == "" && !src.given(s) {
		name, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("host is not set, and the machine's host name is unknown: %w", err)
		}
		return name, nil
	}
	return value, nil
}

// given returns whether s has a value other than its default.
func (src *sources) given(s setting) bool {
	return src.flags.Changed(s.flag()) || os.Getenv(s.env()) != "" || src.lines[s.key] != nil
}

// origin says where the value of s comes from.
func (src *sources) origin(s setting) string {
	if src.flags.Changed(s.flag()) {
		return "--" + s.flag()
	}
	if os.Getenv(s.env()) != "" {
		return s.env()
	}
	if node := src.lines[s.key]; node != nil {
		return fmt.Sprintf("%s:%d: %s", src.file, node.Line, s.key)
	}
	return "default of " + s.key
}

// checkEnvironment returns an error if a variable looks like a setting and is
// none.
func checkEnvironment(environ []string) error {
	valid := []string{envPrefix + "CONFIG"}
	for _, s := range settings() {
		valid = append(valid, s.env())
	}
	slices.Sort(valid)
	for _, v := range slices.Sorted(slices.Values(environ)) {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(valid, name) {
			return fmt.Errorf("environment variable %s is not a setting (valid: %s)", name, strings.Join(valid, ", "))
		}
	}
	return nil
}
