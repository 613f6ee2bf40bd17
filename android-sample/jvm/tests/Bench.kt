package hearpack.tests

import hearpack.core.CallMeter
import hearpack.core.Pipeline

/** Adds up the time inside the engine's calls. */
private class Inside : CallMeter {
    var nanos = 0L
    private var began = 0L

    override fun begin(endSample: Long) {
        began = System.nanoTime()
    }

    override fun end() {
        nanos += System.nanoTime() - began
    }

    override fun failed(message: String) = Unit
}

/** What the pipeline costs above the inference call, a hop, side by side with the call itself: bench/android_loop.py. */
object Bench {
    private const val RUNS = 9

    @JvmStatic
    fun main(arguments: Array<String>) {
        for (name in listOf("dtln", "yamnet")) {
            for (rate in listOf(16000, 48000)) {
                val bundle = Given.bundle(name)
                val samples = Given.floats("bundles/$name/golden/${if (rate == 16000) "input" else "input-$rate"}.f32")
                openEngine(bundle, Given.bundleFolder(name)).use { engine ->
                    val block = rate / 250
                    val inside = Inside()
                    val pipeline = Pipeline(bundle, engine, rate, block, { _, _, _ -> }, {}, inside)
                    val calls = mutableListOf<Double>()
                    val above = mutableListOf<Double>()
                    repeat(RUNS) {
                        pipeline.reset()
                        inside.nanos = 0
                        val began = System.nanoTime()
                        for (at in 0..samples.size - block step block) pipeline.push(samples, at, block)
                        val all = System.nanoTime() - began
                        calls += inside.nanos / 1e3 / pipeline.calls
                        above += (all - inside.nanos) / 1e3 / pipeline.calls
                    }
                    println("bench $name $rate ${calls.sorted()[RUNS / 2]} ${above.sorted()[RUNS / 2]} ${above.max()}")
                }
            }
        }
        System.out.flush()
        Runtime.getRuntime().halt(0)
    }
}
