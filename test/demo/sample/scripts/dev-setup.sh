#!/bin/bash
# scripts/dev-setup.sh
set -e
echo "Setting up the greeter..."
sh greet.sh >/dev/null
echo "✅ Ready"
