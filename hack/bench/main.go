// Command bench measures dvold on a test host and prints a table in Markdown:
// each measure beside a baseline that was taken in the same loop, so that a
// slow or busy machine slows both.
//
// With -write it also puts the table into a file, between the two lines that
// mark its place there.
//
//	go run ./hack/bench [-dvold BINARY] [-dir DIRECTORY] [-write FILE]
//
// It needs what test/lab needs. What it measures runs inside the host, where
// bench starts itself again by the name of a stage.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
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
	flag.StringVar(&o.dir, "dir", "/var/tmp", "the `directory` whose disk the host uses")
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
	}
	return fmt.Errorf("there is no stage %q", *stage)
}

// measure takes all measures and shows them.
func measure(ctx context.Context, o options, file string) error {
	r, err := hosts(ctx, o)
	if err != nil {
		return err
	}
	text := r.markdown()
	fmt.Print(text)
	if file == "" {
		return nil
	}
	return replaceTable(file, text)
}

// report hands the results of a stage to the bench that started it.
func report(r results, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
