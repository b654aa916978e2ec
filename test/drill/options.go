package main

import (
	"errors"
	"flag"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// What can be done to the first host's container.
const (
	howStop    = "stop"
	howKill    = "kill"
	howCommand = "command"
	howWait    = "wait"
)

type options struct {
	hosts    []hostOption // the first has the container in the beginning, the second in the end
	logs     map[string]string
	volume   string
	pool     string
	access   string
	existing bool
	remove   bool
	how      string
	command  []string
	before   time.Duration
	after    time.Duration
	patience time.Duration
	svg      string
	source   string // a directory of the checkout
}

type hostOption struct{ name, address string }

const usage = `usage: hack/drill --host NAME=ADDRESS --host NAME=ADDRESS [flag]... [-- COMMAND [ARGUMENT]...]

Has a container on the first host write to a volume, does to it what --how says, starts it on the second host, and
reports what was lost and how long it took. Exits with 0 if all is well, 1 if not, and 2 if it could not run.

`

// hostName is what a writer can be called.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// parse reads the command line.
func parse(args []string) (options, error) {
	o := options{logs: make(map[string]string)}
	flags := flag.NewFlagSet("drill", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	flags.Func("host", "a host's name and where its Docker engine is reached: `NAME=ADDRESS`, such as h1=ssh://root@h1", func(s string) error {
		name, address, found := strings.Cut(s, "=")
		if !found || !hostName.MatchString(name) || address == "" {
			return errors.New("want NAME=ADDRESS")
		}
		o.hosts = append(o.hosts, hostOption{name, address})
		return nil
	})
	flags.Func("log", "how to follow dvold's log of a host, for the shell: `NAME=COMMAND`; of hosts at ssh:// the journal is read", func(s string) error {
		name, command, found := strings.Cut(s, "=")
		if !found || command == "" {
			return errors.New("want NAME=COMMAND")
		}
		o.logs[name] = command
		return nil
	})
	flags.StringVar(&o.volume, "volume", "", "the volume's `name`; otherwise one that nothing has")
	flags.StringVar(&o.pool, "pool", "", "the `pool` to make it in; otherwise the default pool")
	flags.StringVar(&o.access, "access", "exclusive", "the volume's `access`: exclusive or shared")
	flags.BoolVar(&o.existing, "existing", false, "use a volume that exists: it gets one file more")
	flags.BoolVar(&o.remove, "remove", false, "remove the volume that was made; otherwise it stays")
	flags.StringVar(&o.how, "how", howStop, "`what` to do: stop or kill the container, run the command after --, or wait until it is silent because you pulled a plug")
	flags.DurationVar(&o.before, "before", 5*time.Second, "how long the first host writes before that")
	flags.DurationVar(&o.after, "after", 5*time.Second, "how long the second host writes")
	flags.DurationVar(&o.patience, "patience", 5*time.Minute, "how long to wait for the plug to be pulled, and for the second host to get the volume")
	flags.StringVar(&o.svg, "svg", "", "the `file` to put a picture of it into")
	flags.StringVar(&o.source, "source", ".", "the `directory` of dvol's checkout, to build the writer from (hack/drill says it)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = flags.Args()
	return o, o.check()
}

func (o options) check() error {
	if len(o.hosts) != 2 || o.hosts[0].name == o.hosts[1].name || o.hosts[0].address == o.hosts[1].address {
		return fmt.Errorf("there are %d --host, want two that differ", len(o.hosts))
	}
	for name := range o.logs {
		if name != o.hosts[0].name && name != o.hosts[1].name {
			return fmt.Errorf("--log is of host %q, which is none of the two", name)
		}
	}
	switch o.how {
	case howStop, howKill, howWait:
		if len(o.command) > 0 {
			return fmt.Errorf("there is a command after --, and --how is %s", o.how)
		}
	case howCommand:
		if len(o.command) == 0 {
			return errors.New("--how command wants the command after --")
		}
	default:
		return fmt.Errorf("--how is %q, not stop, kill, command or wait", o.how)
	}
	if o.access != "exclusive" && o.access != "shared" {
		return fmt.Errorf("--access is %q, not exclusive or shared", o.access)
	}
	if o.before <= 0 || o.after <= 0 || o.patience <= 0 {
		return errors.New("--before, --after and --patience are above 0")
	}
	if o.existing && o.volume == "" {
		return errors.New("--existing wants --volume")
	}
	if o.existing && o.remove {
		return errors.New("--remove removes what the drill made, not what is --existing")
	}
	return nil
}
