#!/bin/sh
# BUG: greets everybody as "world".
echo "Hello, world!"
