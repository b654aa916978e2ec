package main

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	hosts := []string{"--host", "h1=ssh://root@h1", "--host", "h2=unix:///run/docker.sock"}
	for name, test := range map[string]struct {
		args  []string
		wrong string // "" if there is nothing wrong
	}{
		"hosts alone":               {hosts, ""},
		"a command":                 {slices.Concat(hosts, []string{"--how", "command", "--", "ssh", "h1", "reboot", "-f"}), ""},
		"a log":                     {slices.Concat(hosts, []string{"--log", "h2=tail -F x=y"}), ""},
		"no host":                   {nil, "there are 0 --host"},
		"one host":                  {hosts[:2], "there are 1 --host"},
		"one host twice":            {slices.Concat(hosts[:2], hosts[:2]), "want two that differ"},
		"two names of one engine":   {slices.Concat(hosts[:2], []string{"--host", "h2=ssh://root@h1"}), "want two that differ"},
		"a host without an address": {[]string{"--host", "h1"}, "want NAME=ADDRESS"},
		"a host with a bad name":    {[]string{"--host", "h 1=ssh://h1"}, "want NAME=ADDRESS"},
		"a log of another host":     {slices.Concat(hosts, []string{"--log", "h3=x"}), `--log is of host "h3"`},
		"a log without a command":   {slices.Concat(hosts, []string{"--log", "h1"}), "want NAME=COMMAND"},
		"no command":                {slices.Concat(hosts, []string{"--how", "command"}), "wants the command"},
		"a command for nothing":     {slices.Concat(hosts, []string{"--how", "kill", "reboot"}), "there is a command"},
		"no such how":               {slices.Concat(hosts, []string{"--how", "pray"}), `--how is "pray"`},
		"no such access":            {slices.Concat(hosts, []string{"--access", "readonly"}), `--access is "readonly"`},
		"no time":                   {slices.Concat(hosts, []string{"--after", "0s"}), "are above 0"},
		"existing without a name":   {slices.Concat(hosts, []string{"--existing"}), "--existing wants --volume"},
		"remove what others made":   {slices.Concat(hosts, []string{"--volume", "x", "--existing", "--remove"}), "--remove removes what"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parse(test.args)
			switch {
			case test.wrong == "" && err != nil:
				t.Error(err)
			case test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)):
				t.Errorf("got %v, want an error with %q", err, test.wrong)
			case err == nil && (o.hosts[0] != hostOption{"h1", "ssh://root@h1"} || o.hosts[1].name != "h2"):
				t.Errorf("hosts are %v", o.hosts)
			}
		})
	}
}

func TestLogCommand(t *testing.T) {
	for name, test := range map[string]struct {
		address, given string
		want           string // all words
	}{
		"of ssh":    {"ssh://root@h1:2222/run/docker.sock", "", "ssh -o BatchMode=yes ssh://root@h1:2222 journalctl --follow"},
		"given":     {"ssh://root@h1", "tail -F x", "sh -c tail -F x"},
		"of a unix": {"unix:///run/docker.sock", "", ""},
		"of tcp":    {"tcp://h1:2376", "", ""},
	} {
		e := &engine{address: test.address}
		if got := strings.Join(e.logCommand(test.given), " "); !strings.HasPrefix(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
