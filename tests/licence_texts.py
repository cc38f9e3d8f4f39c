"""Texts of licences, as short as tell one from another."""

MIT = (
    "Copyright (c) somebody\n\nPermission is hereby granted, free of charge, to any person\n"
    "obtaining a copy of this software, to deal in it without restriction.\n"
)
GPL = "                    GNU GENERAL PUBLIC LICENSE\n                       Version 3\n"
