package command

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/program"
)

// environment is all that the command is told.
func environment(action string, f backends.Fence) ([]string, error) {
	facts, err := factVariables(f.Identity.Facts)
	if err != nil {
		return nil, err
	}
	return append([]string{
		program.SearchPath, // for the programs that a script names; dvold's own may be anything
		"DVOL_ACTION=" + action,
		"DVOL_HOST=" + f.Host,
		"DVOL_INCARNATION=" + strconv.FormatUint(f.Incarnation, 10),
		"DVOL_POOL=" + f.Pool,
		"DVOL_VOLUME=" + f.Volume,
		"DVOL_VOLUME_ID=" + f.ID,
		"DVOL_HANDLE=" + f.Handle,
		"DVOL_DOMAIN=" + f.Identity.Domain,
		"DVOL_EPOCH=" + strconv.FormatUint(f.Epoch, 10),
	}, facts...), nil
}

// factVariables returns a variable for each fact, by the order of names. It is
// an error if two would be one.
func factVariables(facts map[string]string) ([]string, error) {
	var variables []string
	of := make(map[string]string) // the fact's name by the variable's
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		variable := "DVOL_FACT_" + strings.Map(inVariable, name)
		if other, ok := of[variable]; ok {
			return nil, fmt.Errorf("%q and %q are both %s", other, name, variable)
		}
		of[variable] = name
		variables = append(variables, variable+"="+facts[name])
	}
	return variables, nil
}

// inVariable returns what stands for r in the name of a variable.
func inVariable(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z':
		return r - 'a' + 'A'
	case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return r
	}
	return '_'
}
