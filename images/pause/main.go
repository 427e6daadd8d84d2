// Pause holds the namespaces of a pod: it waits until it is told to end. It is the sandbox image of local clusters.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
