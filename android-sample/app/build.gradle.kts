// tools/android/apk.py reads the numbers of defaultConfig from this file: what CI builds is what Gradle builds.
plugins {
    id("com.android.application")
}

android {
    namespace = "hearpack.app"
    compileSdk = 37

    defaultConfig {
        applicationId = "dev.hearpack.sample"
        minSdk = 26
        targetSdk = 37
        versionCode = 1
        versionName = "0.1.0"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    androidResources {
        // LiteRT maps the model into memory: that needs it as it is.
        noCompress += "tflite"
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
}

dependencies {
    implementation(project(":core"))
    implementation("com.google.ai.edge.litert:litert:2.2.0")
}
