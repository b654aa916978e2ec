// Command bench measures dvold on a test host, and on several with Consul, and
// prints tables in Markdown: each measure beside a baseline that was taken in
// the same loop, so that a slow or busy machine slows both.
//
// With -write it also puts the tables into a file, between the two lines that
// mark their place there. A part that is measured alone leaves the others there
// as they are.
//
//	go run ./hack/bench [-dvold BINARY] [-consul BINARY] [-dir DIRECTORY] [-only host|cluster|exclusive|gluster|ceph|nfs] [-n KILLS] [-write FILE]
//
// It needs what test/lab needs, and to be run from the top of the checkout if a
// binary is to be built. What it measures on one host runs inside that, where
// bench starts itself again by the name of a stage; several hosts it calls from
// outside.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dvol/dvold/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	flag.StringVar(&o.dvold, "dvold", "", "the `binary` to measure; otherwise it is built")
	flag.StringVar(&o.dir, "dir", "/var/tmp", "the `directory` whose disk the hosts use")
	flag.StringVar(&o.consul, "consul", "", "the consul `binary`; otherwise it is built, or taken from the cache")
	flag.StringVar(&o.only, "only", "", "measure one `part` alone: host, cluster, exclusive, gluster, ceph or nfs")
	flag.IntVar(&o.kills, "n", 20, "how many hosts to kill that have exclusive volumes, of each kind of storage")
	write := flag.String("write", "", "the `file` to put the table into")
	stage := flag.String("stage", "", "what to measure inside a host (for bench itself)")
	stateDir := flag.String("state-dir", "", "dvold's state directory (for bench itself)")
	flag.Parse()
	switch *stage {
	case "":
		return measure(ctx, o, *write)
	case stageSocket:
		return report(socketStage(ctx, newDaemon(flag.Args(), *stateDir), *stateDir))
	case stageEngine:
		return report(engineStage(ctx))
	case stageGluster:
		return report(clientStage(ctx, glusterKind()))
	case stageFiles:
		return report(clientStage(ctx, cephKind()))
	case stageImages:
		return report(imageStage(ctx))
	case stageNFS:
		return report(nfsStage(ctx, newDaemon(flag.Args(), *stateDir)))
	}
	return fmt.Errorf("there is no stage %q", *stage)
}

// parts are what can be measured alone.
var parts = []struct {
	name, title string
	measure     func(context.Context, options) (results, error)
}{
	{"host", "One host", hosts},
	{"cluster", "Three hosts", cluster},
	{"exclusive", "Exclusive volumes", exclusive},
	{"gluster", "GlusterFS", glusterFS},
	{"ceph", "Ceph", ceph},
	{"nfs", "NFS", nfs},
}

// measure takes all measures and shows them.
func measure(ctx context.Context, o options, file string) error {
	if o.kills < 1 {
		return errors.New("there is nothing to measure of no kills: -n is 1 at least")
	}
	if missing := lab.Missing(); missing != "" {
		return fmt.Errorf("test hosts can't run here: %s", missing)
	}
	o, clean, err := o.build(ctx)
	if err != nil {
		return err
	}
	defer clean()
	var text strings.Builder
	title := ""
	for _, part := range parts {
		if !o.wants(part.name) {
			continue
		}
		title = part.title
		r, err := part.measure(ctx, o)
		if err != nil {
			return fmt.Errorf("measure %s: %w", part.name, err)
		}
		fmt.Fprintf(&text, "%s%s\n\n%s\n", partBegin, part.title, r.markdown())
	}
	if text.Len() == 0 {
		return fmt.Errorf("there is no part %q", o.only)
	}
	fmt.Print(text.String())
	switch {
	case file == "":
		return nil
	case o.only != "":
		return replacePart(file, title, strings.TrimSuffix(text.String(), "\n"))
	}
	return replaceTable(file, strings.TrimSuffix(text.String(), "\n"))
}

// report hands the results of a stage to the bench that started it.
func report(r results, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
