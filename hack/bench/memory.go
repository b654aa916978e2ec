package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxRSS is the target for dvold's resident memory, in KiB.
const maxRSS = 40 << 10

// size is how large dvold is at some moment, in KiB.
type size struct {
	What    string
	RSS     int // all of its memory
	Anon    int // what it allocated: heap and stacks
	File    int // what the kernel keeps of its files anyway: program, database
	Threads int
	Procs   int // processes in its tree, itself included
	Under   int // the target for RSS; 0 if there is none
}

// sizeOf looks at a process.
func sizeOf(pid int, what string) (size, error) {
	s := size{What: what}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return size{}, err
	}
	fields := map[string]*int{"VmRSS:": &s.RSS, "RssAnon:": &s.Anon, "RssFile:": &s.File, "Threads:": &s.Threads}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, "\t")
		if into := fields[name]; into != nil {
			if _, err := fmt.Sscan(value, into); err != nil {
				return size{}, fmt.Errorf("read %s of process %d: %w", name, pid, err)
			}
		}
	}
	children, err := childrenOf(pid)
	s.Procs = 1 + children
	return s, err
}

// childrenOf counts the processes that a process has started.
func childrenOf(pid int) (int, error) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	count := 0
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			return 0, err
		}
		count += len(strings.Fields(string(text)))
	}
	return count, nil
}
