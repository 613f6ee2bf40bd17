package hearpack.tests

import hearpack.core.stream.CallMeter
import hearpack.core.stream.Pipeline
import hearpack.core.stream.StreamLoop
import java.lang.management.ManagementFactory

private val threads = ManagementFactory.getThreadMXBean()

/** Processor time of this thread: LiteRT computes on it too, and other processes do not count. */
private fun cpu() = threads.currentThreadCpuTime

/** Adds up the time inside the engine's calls. */
private class Inside : CallMeter {
    var nanos = 0L
    private var began = 0L

    override fun begin(endSample: Long) {
        began = cpu()
    }

    override fun end() {
        nanos += cpu() - began
    }

    override fun failed(message: String) = Unit
}

/** What loop and pipeline cost above the inference call, a hop, beside the call itself: bench/android_loop.py. */
object Bench {
    private const val RUNS = 15

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
                    val loop = StreamLoop(engine, bundle.manifest, { _, _, _ -> }, inside)
                    val calls = mutableListOf<Double>()
                    val above = mutableListOf<Double>()
                    val bare = mutableListOf<Double>()
                    repeat(RUNS) {
                        pipeline.reset()
                        inside.nanos = 0
                        val began = cpu()
                        for (at in 0..samples.size - block step block) pipeline.push(samples, at, block)
                        val all = cpu() - began
                        calls += inside.nanos / 1e3 / pipeline.calls
                        above += (all - inside.nanos) / 1e3 / pipeline.calls
                        loop.reset()
                        inside.nanos = 0
                        val again = cpu()
                        for (at in 0..samples.size - block step block) loop.push(samples, at, block)
                        bare += (cpu() - again - inside.nanos) / 1e3 / loop.calls
                    }
                    val row = listOf(calls, bare, above).map { it.sorted()[RUNS / 2] }
                    println("bench $name $rate ${bundle.manifest.hopSamples} ${row.joinToString(" ")}")
                }
            }
        }
        System.out.flush()
        Runtime.getRuntime().halt(0)
    }
}
