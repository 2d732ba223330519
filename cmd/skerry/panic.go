package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

// caught ends the process with one sentence after a fault of the program itself. What helps to find the fault goes to a file that only the user
// can read.
func caught(code *int) {
	r := recover()
	if r == nil {
		return
	}
	*code = 1
	where := "it could not be written down"
	if f, err := os.CreateTemp("", "skerry-report-*.txt"); err == nil { // mode 0600
		_, err = fmt.Fprintf(f, "skerry %s\n%v\n\n%s", versionText(), r, debug.Stack())
		if closeErr := f.Close(); err == nil && closeErr == nil {
			where = "a report is in " + f.Name()
		}
	}
	fmt.Fprintf(os.Stderr, "skerry: a fault in skerry itself ended the command; %s\n", where)
}
