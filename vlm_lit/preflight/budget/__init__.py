"""What will a run hold in memory and on disk, before anyone pays for it?"""
