package world

type bounds struct{}

func (w *World) sample() {}
