/*
 * Preloaded into zdb and zhack: they end without tearing libzpool down.
 * What they had to say is said and what they had to write is written by then, but emptying the ARC spins on a random
 * number for each of its lists: five of the six seconds that zdb takes for a small pool.
 */
void kernel_fini(void)
{
}
