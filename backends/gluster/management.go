package gluster

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// checkManagement returns what is wrong with the command.
func checkManagement(argv []string) error {
	if len(argv) == 0 {
		return nil
	}
	if !filepath.IsAbs(argv[0]) && strings.Contains(argv[0], "/") || argv[0] == "" {
		return errors.New("management: the command is neither an absolute path nor a name")
	}
	if slices.ContainsFunc(argv, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		return errors.New("management: no argument can have a zero byte")
	}
	return nil
}
