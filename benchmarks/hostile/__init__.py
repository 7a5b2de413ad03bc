"""Replies and responses of a judge that try to be misread, each made from what a person would read in it."""
