import CMallocCount
import HearpackKit
import HearpackLiteRT
print(malloc_count())
